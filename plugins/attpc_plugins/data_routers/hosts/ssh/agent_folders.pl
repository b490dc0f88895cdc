# Folders and files for the agent (agent.pl), which is sent right after this.
#
# Whoever can write into a staging folder may put a link there under any name at any time. So the agent enters
# the folder of the settings, and from there one subfolder at a time, and checks each time that it is in the
# folder that it saw before. It opens files only by a name in the working folder, and never opens links.

use strict;
use warnings;
use Errno ();
use Fcntl qw(:mode :seek O_RDONLY O_WRONLY O_CREAT O_EXCL O_NOFOLLOW O_NONBLOCK);
use IO::Handle ();

my $SUFFIX = qr/\.graw\z/;
my $CHUNK = 1 << 20;

# Times of files with fractions, if this Perl has them.
my $lstat = sub { lstat $_[0] };
if (eval { require Time::HiRes; Time::HiRes::lstat('/'); 1 }) {
    $lstat = sub { Time::HiRes::lstat($_[0]) };
}

# Ends the request with the reason of the system ($!), or with the given word and text.
sub trouble {
    my ($path, $word, $detail) = @_;
    $detail = "$!" if !defined $detail;
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

# Whether this name exists, even as a broken link.
sub there {
    return defined((lstat $_[0])[0]);
}

# The word for the type of a file, by its mode.
sub kind {
    my ($mode) = @_;
    return S_ISLNK($mode) ? 'link'
        : S_ISDIR($mode) ? 'folder'
        : S_ISREG($mode) ? 'file'
        : S_ISFIFO($mode) ? 'pipe'
        : S_ISSOCK($mode) ? 'socket'
        : 'device';
}

# Whether two results of `stat` are of the same file.
sub same {
    my ($one, $other) = @_;
    return @$one && @$other && $one->[0] == $other->[0] && $one->[1] == $other->[1];
}

# Enters the folder of a path, which may lead through links, and then its subfolders by names, none of
# which may be a link. Returns the path, and the identity of the last folder.
sub go {
    my ($path, @names) = @_;
    chdir $path or trouble($path);
    my @status = stat '.' or trouble($path);
    for my $name (@names) {
        $path .= "/$name";
        my @before = lstat $name or trouble($path);
        trouble($path, 'notdir', kind($before[2])) if !S_ISDIR($before[2]);
        chdir $name or trouble($path);
        @status = stat '.' or trouble($path);
        same(\@before, \@status) or trouble($path, 'other', 'another folder took its place meanwhile');
    }
    return ($path, @status);
}

# Opens a regular file of the working folder for reading; $path is for messages.
sub open_file {
    my ($name, $path) = @_;
    my $opened = sysopen my $file, $name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW;
    my $reason = $!;
    my @status = $opened ? stat $file : lstat $name;
    trouble($path, 'notreg', kind($status[2])) if @status && !S_ISREG($status[2]);
    $! = $reason;
    trouble($path) if !$opened;
    binmode $file;
    return $file;
}

# The regular files *.graw of the working folder: [name, size, time of change] each; $odd gets the others:
# [name, what it is] each.
sub data_files {
    my ($path, $odd) = @_;
    opendir(my $handle, '.') or trouble($path);
    my @found;
    while (defined(my $name = readdir $handle)) {
        if ($name !~ $SUFFIX) {
            push @$odd, [$name, 'side'] if spoils($name) eq 'side';
            next;
        }
        my @status = $lstat->($name);
        next if !@status;
        if (S_ISREG($status[2])) {
            push @found, [$name, $status[7], $status[9]];
        }
        else {
            push @$odd, [$name, kind($status[2])];
        }
    }
    closedir $handle;
    return @found;
}

# Why a run with a file of this name cannot be merged: a word of names.py; empty if it can.
sub spoils {
    my ($name) = @_;
    return $name =~ /CoBo\d+_AsAd\d+.*\.graw/s ? 'side' : '' if $name !~ $SUFFIX;
    my $text = $name;
    return 'bytes' if !utf8::decode($text);
    return $name =~ /_\d{5,}(?:\.late\d+)?\.graw\z/ ? 'part' : '';
}

# With checksums unless $checksums is '', but for the files in @known.
sub listing {
    my ($checksums, $staging, $experiment, $folder, @known) = @_;
    my ($path) = go(grep { defined } $staging, $experiment, $folder);
    my %known = map { $_ => 1 } @known;
    my @answer;
    for my $file (sort { $a->[0] cmp $b->[0] } data_files($path, [])) {
        my $wanted = $checksums ne '' && !$known{ $file->[0] };
        my $sum = $wanted ? sha256($file->[0], "$path/$file->[0]") : '';
        push @answer, $file->[0], number($file->[1]), sprintf('%.6f', $file->[2]), $sum;
    }
    return @answer;
}

sub sha256 {
    my ($name, $path) = @_;
    my $file = open_file($name, $path);
    if (eval { require Digest::SHA; 1 }) {
        my $digest = Digest::SHA->new(256);
        while (1) {
            my $got = sysread($file, my $data, $CHUNK);
            trouble($path) if !defined $got;
            last if $got == 0;
            $digest->add($data);
        }
        return $digest->hexdigest;
    }
    for my $command (['shasum', '-a', '256', '-'], ['sha256sum', '-']) {
        my @lines = eval { no warnings; lines_about($file, @$command) };
        return $1 if @lines && $lines[0] =~ /^\\?([0-9a-f]{64})\b/;
    }
    die ['other', $path, 'this host has no SHA-256: neither Perl\'s Digest::SHA nor shasum nor sha256sum'];
}

# The lines of a program's output, with an open file as its standard input.
sub lines_about {
    my ($file, @command) = @_;
    sysseek $file, 0, SEEK_SET;
    my $child = open(my $pipe, '-|');
    die "no process: $!" if !defined $child;
    if (!$child) {
        open(STDIN, '<&', $file) and exec { $command[0] } @command;
        require POSIX;
        POSIX::_exit(127);
    }
    my @lines = <$pipe>;
    close $pipe;
    return @lines;
}

sub begin {
    my ($staging, $experiment, $closing, $closed) = @_;
    go($staging);
    make_folder($experiment, "$staging/$experiment");
    my ($path) = go($staging, $experiment);
    trouble("$path/$closed", 'exists') if there($closed);
    make_folder($closing, "$path/$closing");
    return;
}

sub make_folder {
    my ($name, $path) = @_;
    return if mkdir $name;
    trouble($path) if !$!{EEXIST};
    my @status = lstat $name or trouble($path);
    trouble($path, 'notdir', kind($status[2])) if !S_ISDIR($status[2]);
}

# Returns a word and a text for each file: moved, vanished, grown, exists, or the word of a trouble. The text of
# a moved file is the name it is kept under, where that is not its own. $late is the most late tails of a file.
sub move {
    my ($staging, $experiment, $closing, $late, @files) = @_;
    my (undef, @root) = go($staging);
    sysopen(my $root, '.', O_RDONLY) or trouble($staging);
    my ($path) = go($staging, $experiment, $closing);
    # The way back is by the open folder if the system has such names. Otherwise it checks before
    # each step that the staging folder is still above this one.
    my $back = '/proc/self/fd/' . fileno $root;
    $back = '../..' if !same([stat $back], \@root);
    my @answer;
    while (my ($name, $size) = splice @files, 0, 2) {
        my @done = eval {
            same([stat $back], \@root) or trouble($staging, 'other', 'another folder took its place meanwhile');
            my $to = $late ? target("$back/$name", $name, $late) : $name;
            my @one = move_one("$back/$name", $to, $size, "$staging/$name", "$path/$to");
            $one[1] = $to if $one[0] eq 'moved' && $to ne $name;
            @one;
        };
        if (my $error = $@) {
            @done = ref $error ? ($error->[0], $error->[1], $error->[2]) : ('other', "$staging/$name", $error);
        }
        push @answer, @done;
    }
    return @answer;
}

# The name under which a file is to be kept: a late name where another file has its own.
sub target {
    my ($here, $name, $most) = @_;
    my @found = lstat $here or return $name;
    my @gathered = lstat $name or return $name;
    return $name if same(\@gathered, \@found);
    my $free = 1;
    for my $count (1 .. $most) {
        my @taken = lstat late_name($name, $count) or next;
        # An earlier attempt ended between its two steps.
        return late_name($name, $count) if same(\@taken, \@found);
        $free = $count + 1;    # behind the last, so that the order is right also if one was removed
    }
    return $free <= $most ? late_name($name, $free) : $name;
}

# The name of a late tail, as in names.py.
sub late_name {
    my ($name, $count) = @_;
    my $nines = '9' x int(($count - 1) / 9);
    $name =~ s/\.graw\z//;
    return "$name.late$nines" . (($count - 1) % 9 + 1) . '.graw';
}

# The last two fields are paths for messages.
sub move_one {
    my ($here, $there, $size, $from, $to) = @_;
    my @found = lstat $here;
    trouble($from) if !@found && !$!{ENOENT};
    my @gathered = lstat $there;
    trouble($to) if !@gathered && !$!{ENOENT};
    if (!@found) {
        return @gathered ? ('moved', '', $gathered[7]) : ('vanished', $from, '');
    }
    trouble($from, 'notreg', kind($found[2])) if !S_ISREG($found[2]);
    if (@gathered) {
        return ('exists', $to, '') if !same(\@gathered, \@found);
        # An earlier attempt ended between its two steps, or still runs.
        unlink $here or $!{ENOENT} or trouble($from);
        return ('moved', '', $size);
    }
    return ('grown', '', $found[7]) if $found[7] != $size;
    if (!link $here, $there) {
        return ('exists', $to, '') if $!{EEXIST};
        # The file system has no hard links, or forbids them for files of others.
        if (!($!{EPERM} || $!{ENOTSUP} || $!{EOPNOTSUPP} || $!{ENOSYS} || $!{EMLINK} || $!{EINVAL})) {
            trouble($from);
        }
        return ('exists', $to, '') if there($there);
        rename $here, $there or trouble($from);
        return ('moved', '', $size);
    }
    my @now = lstat $there;
    if (!same(\@now, \@found)) {
        unlink $there or trouble($to);
        trouble($from, 'other', 'another file took its place meanwhile');
    }
    if ($now[7] != $size) {
        unlink $there or trouble($to);
        return ('grown', '', $now[7]);
    }
    if (!unlink($here) && !$!{ENOENT}) {
        my $reason = $!;
        unlink $there;
        $! = $reason;
        trouble($from);
    }
    return ('moved', '', $size);
}

sub finish {
    my ($staging, $experiment, $closing, $closed, $manifest) = @_;
    my ($path, @experiment) = go($staging, $experiment);
    my ($new, $old) = ("$path/$closed", "$path/$closing");
    if (there($closed)) {
        # An earlier attempt may have finished without being able to answer.
        if (!there($closing)) {
            my ($kept) = eval { manifest(length($manifest) + 1, $staging, $experiment, $closed) };
            return if defined $kept && $kept eq $manifest;
        }
        trouble($new, 'exists');
    }
    my (undef, @gathered) = go($staging, $experiment, $closing);
    write_manifest($manifest, $old);
    sync_folder('.', $old);
    chdir '..' or trouble($path);
    same([stat '.'], \@experiment) && same([lstat $closing], \@gathered)
        or trouble($old, 'other', 'another folder took its place meanwhile');
    # Nothing is overwritten: `rename` replaces a folder only if it is empty.
    trouble($new, 'exists') if there($closed);
    if (!rename $closing, $closed) {
        trouble($new, 'exists') if $!{EEXIST} || $!{ENOTEMPTY} || $!{ENOTDIR};
        trouble($new);
    }
    sync_folder('.', $path);
    sync_folder('..', $staging);
    return;
}

# Replaces the manifest of a closed run.
sub amend {
    my ($staging, $experiment, $closed, $manifest) = @_;
    my ($path) = go($staging, $experiment, $closed);
    trouble("$path/manifest.json") if !there('manifest.json');
    write_manifest($manifest, $path);
    sync_folder('.', $path);
    return;
}

# Writes the manifest into the working folder; replaces a whole or partial one of an earlier attempt.
sub write_manifest {
    my ($data, $path) = @_;
    my ($name, $unfinished) = ('manifest.json', '.manifest.json.new');
    for my $taken ($unfinished, $name) {
        my @status = lstat $taken or next;
        trouble("$path/$taken", 'notreg', kind($status[2])) if !S_ISREG($status[2]);
    }
    unlink $unfinished or $!{ENOENT} or trouble("$path/$name");
    if (!write_new($unfinished, $data) || !rename $unfinished, $name) {
        my $reason = $!;
        unlink $unfinished;
        $! = $reason;
        trouble("$path/$name");
    }
}

sub write_new {
    my ($name, $data) = @_;
    sysopen(my $file, $name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW) or return 0;
    binmode $file;
    my $at = 0;
    while ($at < length $data) {
        my $put = syswrite $file, $data, length($data) - $at, $at;
        return 0 if !defined $put;
        $at += $put;
    }
    return $file->sync && close $file;
}

# Syncs a folder's names to the disk, if the file system supports it.
sub sync_folder {
    my ($name, $path) = @_;
    sysopen(my $handle, $name, O_RDONLY) or trouble($path);
    if (!$handle->sync && !($!{EINVAL} || $!{ENOTSUP} || $!{EBADF})) {
        trouble($path);
    }
}
