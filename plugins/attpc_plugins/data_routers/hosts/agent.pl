# The agent: what attpc-ioc runs on a data router's host for as long as it is connected, by `perl -`.
#
# It comes on standard input, followed by __END__ and then by requests, a line each, which it reads as <DATA>.
# A line has words with a space between: the name of a request, then its fields as 'x' and hexadecimal digits,
# so that no name is ever read by a shell or can end a line. It answers each with one line: 'ok' and fields, or
# 'trouble', a word of the list in `trouble`, a path and the system's own words.
#
# Perl 5.8 and its core modules, of Linux and macOS; no options of one system's programs only. What it does to
# folders is what folders.py does, step by step; whatever is interrupted here and repeated ends the same.

use strict;
use warnings;
use Errno ();
use Fcntl qw(:mode :seek O_RDONLY O_WRONLY O_CREAT O_TRUNC O_NONBLOCK);
use IO::Handle ();

$| = 1;
binmode STDOUT;
binmode DATA;
$SIG{XFSZ} = 'IGNORE';    # a file that grows too large is an error to be told, not an end
$ENV{LC_ALL} = 'C';
$ENV{PATH} = join ':', grep { defined && length } $ENV{PATH}, '/usr/bin:/bin:/usr/sbin:/sbin';

my $SUFFIX = qr/\.graw\z/;
my $CHUNK = 1 << 20;
my $KERNEL_LETTERS = 15;    # Linux keeps so many letters of a program's name

# Times of files with their fractions, where this Perl has that.
my $lstat = sub { lstat $_[0] };
if (eval { require Time::HiRes; Time::HiRes::lstat('/'); 1 }) {
    $lstat = sub { Time::HiRes::lstat($_[0]) };
}

# Ends the request with the reason why the system refused ($!), or with the given word.
sub trouble {
    my ($path, $word) = @_;
    my $detail = "$!";
    if (!defined $word) {
        $word = $!{ENOENT} ? 'noent'
            : $!{ENOTDIR} ? 'notdir'
            : ($!{EACCES} || $!{EPERM}) ? 'denied'
            : ($!{ENOSPC} || $!{EDQUOT}) ? 'full'
            : $!{EROFS} ? 'readonly'
            : $!{EFBIG} ? 'toolarge'
            : $!{EXDEV} ? 'otherdisk'
            : $!{EIO} ? 'broken'
            : $!{EEXIST} ? 'exists'
            : 'other';
    }
    die [$word, $path, $detail];
}

# Whether anything has this name, a link that leads nowhere included.
sub there {
    return defined((lstat $_[0])[0]);
}

# The regular files *.graw of a folder: [name, size, time of change] each.
sub data_files {
    my ($folder) = @_;
    opendir(my $handle, $folder) or trouble($folder);
    my @found;
    while (defined(my $name = readdir $handle)) {
        next if $name !~ $SUFFIX;
        my @status = $lstat->("$folder/$name");
        next if !@status || !S_ISREG($status[2]);
        push @found, [$name, $status[7], $status[9]];
    }
    closedir $handle;
    return @found;
}

sub need_folder {
    my ($path) = @_;
    my @status = stat $path or trouble($path);
    trouble($path, 'notdir') if !S_ISDIR($status[2]);
}

# The lines of a program's output; it is run without a shell.
sub lines_of {
    my (@command) = @_;
    open(my $pipe, '-|', @command) or trouble($command[0]);
    my @lines = <$pipe>;
    close $pipe;
    return @lines;
}

# Whether a program runs; one that has ended and is not yet buried does not count. macOS gives its whole path.
sub runs {
    my ($wanted) = @_;
    my @lines = lines_of('ps', '-A', '-ww', '-o', 'stat=', '-o', 'comm=');
    if (!@lines) {
        $! = 0;
        die ['other', 'ps', 'it lists no processes'];
    }
    for my $line (@lines) {
        $line =~ /^\s*(\S+)\s+(.*)$/ or next;
        my ($state, $name) = ($1, $2);
        next if $state =~ /^Z/;
        $name =~ s{.*/}{};
        # A name that is cut short may end with a blank that belongs to it; other blanks would be `ps`'s own.
        return 1 if length($name) == $KERNEL_LETTERS && substr($wanted, 0, $KERNEL_LETTERS) eq $name;
        $name =~ s/\s+$//;
        return 1 if $name eq $wanted;
        return 1 if length($name) == $KERNEL_LETTERS && substr($wanted, 0, $KERNEL_LETTERS) eq $name;
    }
    return 0;
}

# Free bytes and all bytes of the disk that a folder is on.
sub disk {
    my ($folder) = @_;
    for my $line (reverse lines_of('df', '-Pk', $folder)) {
        return ($3 * 1024, $1 * 1024) if $line =~ /\s(\d+)\s+(-?\d+)\s+(-?\d+)\s+(?:-|-?\d+%)\s/;
    }
    die ['other', $folder, 'df does not tell the free disk space'];
}

sub look {
    my ($staging, $process, $next) = @_;
    my ($count, $bytes) = (0, 0);
    for my $file (data_files($staging)) {
        $count++;
        $bytes += $file->[1];
    }
    my ($free, $total) = disk($staging);
    my $alive = $process eq '' || runs($process) ? 1 : 0;
    return ($alive, $count, number($bytes), number($free), number($total), $next ne '' && there($next) ? 1 : 0);
}

# A whole number as digits, also where this Perl's numbers have 32 bits.
sub number {
    return sprintf '%.0f', $_[0];
}

sub listing {
    my ($folder, $checksums) = @_;
    my @answer;
    for my $file (sort { $a->[0] cmp $b->[0] } data_files($folder)) {
        my $sum = $checksums ? sha256("$folder/$file->[0]") : '';
        push @answer, $file->[0], number($file->[1]), sprintf('%.6f', $file->[2]), $sum;
    }
    return @answer;
}

sub sha256 {
    my ($path) = @_;
    if (eval { require Digest::SHA; 1 }) {
        sysopen(my $file, $path, O_RDONLY | O_NONBLOCK) or trouble($path);
        binmode $file;
        my $digest = Digest::SHA->new(256);
        while (1) {
            my $got = sysread($file, my $data, $CHUNK);
            trouble($path) if !defined $got;
            last if $got == 0;
            $digest->add($data);
        }
        return $digest->hexdigest;
    }
    for my $command (['shasum', '-a', '256'], ['sha256sum']) {
        my @lines = eval { no warnings; lines_of(@$command, $path) };
        return $1 if @lines && $lines[0] =~ /^\\?([0-9a-f]{64})\b/;
    }
    sysopen(my $file, $path, O_RDONLY | O_NONBLOCK) or trouble($path);
    die ['other', $path, 'this host has no SHA-256: neither Perl\'s Digest::SHA nor shasum nor sha256sum'];
}

sub begin {
    my ($staging, $experiment, $closing, $closed) = @_;
    trouble($closed, 'exists') if there($closed);
    need_folder($staging);
    for my $path ($experiment, $closing) {
        next if mkdir $path;
        trouble($path) if !$!{EEXIST};
        need_folder($path);
    }
    return;
}

# Answers a word and a text for each file: moved, vanished, grown, exists, or the word of a trouble.
sub move {
    my ($staging, $closing, @files) = @_;
    need_folder($closing);
    my @answer;
    while (my ($name, $size) = splice @files, 0, 2) {
        my @done = eval { move_one("$staging/$name", "$closing/$name", $size) };
        if (my $error = $@) {
            @done = ref $error ? ($error->[0], $error->[1], $error->[2]) : ('other', "$staging/$name", $error);
        }
        push @answer, @done;
    }
    return @answer;
}

sub move_one {
    my ($here, $there, $size) = @_;
    my @found = lstat $here;
    trouble($here) if !@found && !$!{ENOENT};
    my @gathered = lstat $there;
    trouble($there) if !@gathered && !$!{ENOENT};
    if (!@found) {
        return @gathered ? ('moved', '', $gathered[7]) : ('vanished', $here, '');
    }
    trouble($here, 'notreg') if !S_ISREG($found[2]);
    if (@gathered) {
        return ('exists', $there, '') if $gathered[0] != $found[0] || $gathered[1] != $found[1];
        # An earlier attempt ended between its two steps, or is still at it.
        unlink $here or $!{ENOENT} or trouble($here);
        return ('moved', '', $size);
    }
    return ('grown', '', $found[7]) if $found[7] != $size;
    if (!link $here, $there) {
        return ('exists', $there, '') if $!{EEXIST};
        # Where a file system, or its rules for other people's files, has no hard links.
        if (!($!{EPERM} || $!{ENOTSUP} || $!{EOPNOTSUPP} || $!{ENOSYS} || $!{EMLINK} || $!{EINVAL})) {
            trouble($here);
        }
        return ('exists', $there, '') if there($there);
        rename $here, $there or trouble($here);
        return ('moved', '', $size);
    }
    my $now = (lstat $there)[7];
    if ($now != $size) {
        unlink $there or trouble($there);
        return ('grown', '', $now);
    }
    if (!unlink($here) && !$!{ENOENT}) {
        my $reason = $!;
        unlink $there;
        $! = $reason;
        trouble($here);
    }
    return ('moved', '', $size);
}

sub finish {
    my ($staging, $experiment, $closing, $closed, $manifest) = @_;
    if (there($closed)) {
        # An earlier attempt may have come to its end with nobody left to be told.
        my $kept = there($closing) ? undef : (manifest("$closed/manifest.json", length($manifest) + 1))[0];
        return if defined $kept && $kept eq $manifest;
        trouble($closed, 'exists');
    }
    my ($new, $path) = ("$closing/.manifest.json.new", "$closing/manifest.json");
    if (!write_file($new, $manifest) || !rename $new, $path) {
        my $reason = $!;
        unlink $new;
        $! = $reason;
        trouble($path);
    }
    sync_folder($closing);
    # Nothing is ever written over: `rename` replaces a folder only when it is empty.
    trouble($closed, 'exists') if there($closed);
    if (!rename $closing, $closed) {
        trouble($closed, 'exists') if $!{EEXIST} || $!{ENOTEMPTY} || $!{ENOTDIR};
        trouble($closed);
    }
    sync_folder($experiment);
    sync_folder($staging);
    return;
}

sub write_file {
    my ($path, $data) = @_;
    sysopen(my $file, $path, O_WRONLY | O_CREAT | O_TRUNC) or return 0;
    binmode $file;
    my $at = 0;
    while ($at < length $data) {
        my $put = syswrite $file, $data, length($data) - $at, $at;
        return 0 if !defined $put;
        $at += $put;
    }
    return $file->sync && close $file;
}

# Brings a folder's names to the disk; a file system that knows no such thing does it in its own time.
sub sync_folder {
    my ($path) = @_;
    sysopen(my $handle, $path, O_RDONLY) or trouble($path);
    if (!$handle->sync && !($!{EINVAL} || $!{ENOTSUP} || $!{EBADF})) {
        trouble($path);
    }
}

# The bytes of a regular file, at most so many.
sub read_file {
    my ($path, $limit) = @_;
    sysopen(my $file, $path, O_RDONLY | O_NONBLOCK) or trouble($path);
    binmode $file;
    my @status = stat $file;
    trouble($path, 'notreg') if !@status || !S_ISREG($status[2]);
    my $data = '';
    while (length($data) <= $limit) {
        my $want = $limit + 1 - length $data;
        my $got = sysread $file, $data, ($want < $CHUNK ? $want : $CHUNK), length $data;
        trouble($path) if !defined $got;
        last if $got == 0;
    }
    trouble($path, 'toolarge') if length($data) > $limit;
    return $data;
}

sub manifest {
    my ($path, $limit) = @_;
    my @data = eval { read_file($path, $limit) };
    if (my $error = $@) {
        die $error if there($path);
        return;
    }
    return @data;
}

# The last bytes of a file, at most so many; lines are counted by who asked.
sub tail {
    my ($path, $limit) = @_;
    sysopen(my $file, $path, O_RDONLY | O_NONBLOCK) or trouble($path);
    binmode $file;
    my @status = stat $file;
    trouble($path, 'notreg') if !@status || !S_ISREG($status[2]);
    my $end = sysseek $file, 0, SEEK_END;
    trouble($path) if !defined $end;
    defined sysseek $file, ($end > $limit ? $end - $limit : 0), SEEK_SET or trouble($path);
    my $data = '';
    while (length($data) < $limit) {
        my $got = sysread $file, $data, $limit - length $data, length $data;
        trouble($path) if !defined $got;
        last if $got == 0;
    }
    return $data;
}

# Ends agents that were given up and cannot be told so. A number may be another program's by now: only what is
# called as an agent is, is ended.
sub end {
    my (@numbers) = @_;
    for my $number (grep { /^[1-9][0-9]*\z/ && $_ != $$ } @numbers) {
        my @lines = lines_of('ps', '-ww', '-p', $number, '-o', 'command=');
        kill 'KILL', $number if @lines && $lines[0] =~ m{^\s*(?:\S*/)?perl -\s*$};
    }
    return;
}

my %DOES = (
    end => \&end,
    look => \&look,
    listing => \&listing,
    begin => \&begin,
    move => \&move,
    finish => \&finish,
    manifest => \&manifest,
    read => \&read_file,
    tail => \&tail,
);

sub answer {
    my ($word, @fields) = @_;
    print join(' ', $word, map { 'x' . unpack 'H*', $_ } @fields), "\n";
}

# What a login shell prints comes before this line.
print "attpc-agent 1 $$\n";
while (defined(my $line = <DATA>)) {
    chomp $line;
    my ($name, @words) = split / /, $line;
    my ($limit, @fields) = map { pack 'H*', substr $_, 1 } @words;
    my $does = $DOES{$name};
    # Whoever asked has given up after so many seconds: work that still goes on then must not pile up.
    alarm $limit;
    my @found = eval {
        die ['other', $name, 'the agent knows no such request'] if !$does;
        $does->(@fields);
    };
    my $error = $@;
    alarm 0;
    if (!$error) {
        answer('ok', @found);
    }
    elsif (ref $error) {
        answer('trouble', @$error);
    }
    else {
        answer('trouble', 'other', $name, $error);
    }
}
