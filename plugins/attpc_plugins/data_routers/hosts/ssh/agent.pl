# The agent: attpc-ioc runs it on a data router's host with `perl -` while it is connected.
#
# It arrives on standard input, followed by __END__ and the requests, one line each, which it reads as <DATA>.
# A line has words separated by spaces: the name of a request, then its fields as 'x' and hexadecimal digits,
# so that a shell never reads a name, and no name can end a line. The answer is one line: 'ok' and fields, or
# 'trouble', a word of the list in `trouble`, a path and the system's message.
#
# It needs Perl 5.8 with its core modules on Linux or macOS, and uses only options that both systems have. It
# handles folders as folders.py does, step by step; a repeated request ends the same after an interruption.
# It is sent after agent_folders.pl and agent_frames.pl, as one program, and shares their declarations.

$| = 1;
binmode STDOUT;
binmode DATA;
$SIG{XFSZ} = 'IGNORE';    # a file that is too large is an error, which must not end the agent
$ENV{LC_ALL} = 'C';
$ENV{PATH} = join ':', grep { defined && length } $ENV{PATH}, '/usr/bin:/bin:/usr/sbin:/sbin';

my $KERNEL_LETTERS = 15;    # Linux keeps this many letters of a program's name

# The lines of a program's output; it is run without a shell.
sub lines_of {
    my (@command) = @_;
    open(my $pipe, '-|', @command) or trouble($command[0]);
    my @lines = <$pipe>;
    close $pipe;
    return @lines;
}

my $PROCESSES = 100;        # more of a program are not reported

# The process numbers of some programs; zombies do not count. macOS lists the whole path.
sub running {
    my (@wanted) = @_;
    my @lines = lines_of('ps', '-A', '-ww', '-o', 'pid=', '-o', 'stat=', '-o', 'comm=');
    my @numbers;
    if (!@lines) {
        $! = 0;
        die ['other', 'ps', 'it lists no processes'];
    }
    for my $line (@lines) {
        $line =~ /^\s*(\d+)\s+(\S+)\s+(.*)$/ or next;
        my ($number, $state, $name) = ($1, $2, $3);
        next if $state =~ /^Z/;
        $name =~ s{.*/}{};
        (my $trimmed = $name) =~ s/\s+$//;
        push @numbers, $number if grep { is_name($_, $name, $trimmed) } @wanted;
        last if @numbers == $PROCESSES;
    }
    return @numbers;
}

# Whether a program has a name of which `ps` shows this. A truncated name may end with a blank of its own; other
# blanks are from `ps`.
sub is_name {
    my ($wanted, $name, $trimmed) = @_;
    return 1 if $trimmed eq $wanted;
    my $begin = substr $wanted, 0, $KERNEL_LETTERS;
    return scalar grep { length($_) == $KERNEL_LETTERS && $_ eq $begin } $name, $trimmed;
}

# Free and total bytes of the disk of the working folder.
sub disk {
    my ($path) = @_;
    for my $line (reverse lines_of('df', '-Pk', '.')) {
        next if $line !~ /\s(\d+)\s+(-?\d+)\s+(-?\d+)\s+(?:-|-?\d+%)\s/;
        # A disk may be so full that even root's reserve is used.
        return (($3 > 0 ? $3 : 0) * 1024, $1 * 1024);
    }
    die ['other', $path, 'df does not tell the free disk space'];
}

sub poll {
    my ($staging, $process, $experiment, $next) = @_;
    go($staging);
    my ($count, $bytes, @odd) = (0, 0);
    for my $file (data_files($staging, \@odd)) {
        $count++;
        $bytes += $file->[1];
        my $reason = spoils($file->[0]);
        push @odd, [$file->[0], $reason] if $reason ne '';
    }
    my ($free, $total) = disk($staging);
    my $numbers = join ' ', $process eq '' ? () : running(split /\0/, $process);
    my $exists = 0;
    my @status = $experiment ne '' ? lstat $experiment : ();
    if (@status && !S_ISDIR($status[2])) {
        $exists = 1;
        push @odd, [$experiment, kind($status[2])];
    }
    elsif (@status) {
        $exists = there("$experiment/$next") ? 1 : 0;
    }
    my @answer = ($numbers, $count, number($bytes), number($free), number($total), $exists, scalar @odd);
    my ($first) = sort { $a->[0] cmp $b->[0] } @odd;
    return defined $first ? (@answer, "$staging/$first->[0]", $first->[1]) : @answer;
}

# A whole number as digits, also if this Perl has 32-bit numbers.
sub number {
    return sprintf '%.0f', $_[0];
}

# Ends abandoned agents, which nothing else can reach. A process number may belong to another program by now, so
# only a process with the command of an agent is ended.
sub end {
    my (@numbers) = @_;
    for my $number (grep { /^[1-9][0-9]*\z/ && $_ != $$ } @numbers) {
        my @lines = lines_of('ps', '-ww', '-p', $number, '-o', 'command=');
        kill 'KILL', $number if @lines && $lines[0] =~ m{^\s*(?:\S*/)?perl -\s*$};
    }
    return;
}

# The bytes of a regular file of a folder, up to a limit.
sub read_file {
    my ($limit, $folder, $name) = @_;
    my ($path) = go($folder);
    return bytes_of($limit, $name, "$path/$name");
}

sub bytes_of {
    my ($limit, $name, $path) = @_;
    my $file = open_file($name, $path);
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

# The manifest of a closed run; nothing if there is none.
sub manifest {
    my ($limit, $staging, $experiment, $closed) = @_;
    go($staging);
    return if !there($experiment);
    go($staging, $experiment);
    return if !there($closed);
    my ($path) = go($staging, $experiment, $closed);
    return if !there('manifest.json');
    return bytes_of($limit, 'manifest.json', "$path/manifest.json");
}

# The last bytes of a file, up to a limit; the caller counts lines.
sub tail {
    my ($limit, $folder, $name) = @_;
    my ($where) = go($folder);
    my $path = "$where/$name";
    my $file = open_file($name, $path);
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

# Sends a data file of a run's folder: the answer has its size, then its bytes come as they are, then another
# answer. Each piece has the time of a request.
sub send_file {
    my ($limit, @place) = @_;
    my $name = pop @place;
    my ($path) = go(@place);
    $path .= "/$name";
    my $file = open_file($name, $path);
    my $left = -s $file;
    answer('ok', number($left));
    while ($left > 0) {
        alarm $limit;
        my $got = sysread $file, my $data, ($left < $CHUNK ? $left : $CHUNK);
        # Nothing but the end can tell the reader of a fault among these bytes.
        exit 1 if !$got;
        $left -= $got;
        print $data or exit 1;
    }
    return;
}

my %DOES = (
    end => \&end,
    hop => \&hop_file,
    look => \&look,
    poll => \&poll,
    listing => \&listing,
    begin => \&begin,
    move => \&move,
    finish => \&finish,
    amend => \&amend,
    manifest => \&manifest,
    read => \&read_file,
    tail => \&tail,
    send => \&send_file,
);

sub answer {
    my ($word, @fields) = @_;
    print join(' ', $word, map { 'x' . unpack 'H*', $_ } @fields), "\n";
}

# The output of a login shell comes before this line.
print "attpc-agent 1 $$\n";
while (defined(my $line = <DATA>)) {
    chomp $line;
    my ($name, @words) = split / /, $line;
    my ($limit, @fields) = map { pack 'H*', substr $_, 1 } @words;
    my $does = $DOES{$name};
    # The caller has given up by then; unfinished work must not pile up.
    alarm $limit;
    my @found = eval {
        die ['other', $name, 'the agent knows no such request'] if !$does;
        $does->(@fields);
    };
    my $error = $@;
    alarm 0;
    chdir '/';    # an idle agent must not keep a disk busy
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
