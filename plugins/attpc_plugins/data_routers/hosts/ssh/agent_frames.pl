# Looks at frames for the agent (agent.pl): hops from header to header, as local/frames.py does, step by step.
# It reads headers only, or small blocks where frames are small, and runs behind all other programs.

my $HEAD = 64;
my $BLOCK = 1 << 16;
my $SMALL = 2048;
my $LONGEST = 1 << 23;
my $SEARCHED_FIRST = 1 << 15;
my $SEARCHED = 1 << 20;
my $CHAIN = 3;
my $NONE = -1;
my $UNDECIDED = -2;
my $TIME = qr/\d{4}-?\d\d-?\d\d[T_ -]\d\d[:.h_-]?\d\d[:.m_-]?\d\d(?:[.,]\d+)?/;
my $NAME = qr/\A(CoBo\d+_AsAd\d+|Mu[Tt][Aa][Nn][Tt])_($TIME)_(\d+)\.graw\z/;
my $START = qr/(?=.{5}(?:(?:\x00[\x01\x02]|[\x01\x02]\x00).(?:\x00\x01|\x01\x00)|\x00\x08|\x08\x00))/s;

# The usual header, of a CoBo in the usual byte order: first byte, length, type, sizes of header and item, time,
# event number.
my $USUAL = 'CCnxnxnnx4nNN';

# Length, type, event number and time of the frame that begins at an offset of a text; nothing if none does.
sub head_of {
    my ($data, $at) = @_;
    my $there = length($data) - $at;
    return if $there < 12;
    my ($first, $high, $low, $kind) = unpack 'CCnxn', substr $data, $at, 7;
    my $little = $first & 0x80;
    if ($little) {
        ($low, $high, $kind) = unpack 'vCxv', substr $data, $at + 1, 6;
    }
    my $length = ($high * 65536 + $low) * 2 ** ($first & 15);
    return ($length, 7, -1, -1) if $kind == 7 && $length == 12;
    my $u32 = $little ? 'V' : 'N';
    my ($event_at, $time_at);
    if ($kind == 8) {
        return if $length < $HEAD || $length > $SMALL || $there < 40;
        ($time_at, $event_at) = (8, 14);
    }
    elsif ($kind == 1 || $kind == 2) {
        return if $length < 256 || $length > $LONGEST || $there < 28;
        my ($blocks, $item) = unpack $little ? 'vv' : 'nn', substr $data, $at + 8, 4;
        return if $blocks != 1 || ($item != 2 && $item != 4);
        ($time_at, $event_at) = (16, 22);
    }
    else {
        return;
    }
    my ($event) = unpack $u32, substr $data, $at + $event_at, 4;
    my ($time_high, $time_low) = unpack 'nN', substr $data, $at + $time_at, 6;
    ($time_low, $time_high) = unpack 'Vv', substr $data, $at + $time_at, 6 if $little;
    return ($length, $kind, $event, $time_high * 4294967296 + $time_low);
}

# At most so many bytes of a file from an offset on.
sub bytes_at {
    my ($file, $path, $offset, $most) = @_;
    defined sysseek $file, $offset, SEEK_SET or trouble($path);
    my $data = q();
    my $got = sysread $file, $data, $most;
    trouble($path) if !defined $got;
    return $data;
}

# The header at an offset of a file ({handle, path, size}); of small frames a block is kept.
sub head_at {
    my ($file, $offset, $small) = @_;
    my $at = $offset - $file->{begin};
    if ($at < 0 || $at > length($file->{block}) - $HEAD) {
        $file->{block} = bytes_at($file->{handle}, $file->{path}, $offset, $small ? $BLOCK : $HEAD);
        $file->{begin} = $offset;
        $at = 0;
    }
    return head_of($file->{block}, $at);
}

# Whether frames follow one another from here on, or to the end of the file; undefined if it grows, and what is
# still to come decides.
sub is_chain {
    my ($file, $offset, $grows) = @_;
    my ($size, $unknown) = ($file->{size}, $grows ? undef : 0);
    for my $left (reverse 0 .. $CHAIN - 1) {
        my ($length) = head_at($file, $offset, 0);
        return $offset + $HEAD > $size ? $unknown : 0 if !defined $length;
        $offset += $length;
        return $grows ? undef : $offset == $size if $offset > $size || ($offset == $size && $left);
    }
    return 1;
}

# The offset of the first frame between two offsets; $NONE, or $UNDECIDED if the file ends so far before that is
# known.
sub find_frame {
    my ($file, $begin, $end, $grows) = @_;
    my $data = bytes_at($file->{handle}, $file->{path}, $begin, $end - $begin + $HEAD);
    while ($data =~ /$START/g) {
        my $at = pos $data;
        last if $begin + $at >= $end;
        my $chain = is_chain($file, $begin + $at, $grows);
        return $UNDECIDED if !defined $chain;
        return $begin + $at if $chain;
        pos($data) = $at + 1;
    }
    return $end + ($grows ? $HEAD : 1) > $file->{size} ? $UNDECIDED : $NONE;
}

sub near_end {
    my ($file) = @_;
    for my $span ($SEARCHED_FIRST, $SEARCHED) {
        my $begin = $file->{size} > $span ? $file->{size} - $span : 0;
        my $found = find_frame($file, $begin, $file->{size}, 0);
        return $found if $found >= 0;
    }
    return $file->{size};
}

# Hops over the frames of one file; returns the number of frames, and the fields of the answer. `gaps_most`: of a
# closed file; its samples are thinned to an even spread, else the first and the last ones count.
sub hop {
    my ($file, $offset, $before, $still, $grows, $step, $most, $samples_most, $jump, $gaps_most) = @_;
    ($offset, $before) = (near_end($file), -1) if $jump;
    my ($frames, $first, $event, $ticks, $missing, $back, $torn, $torn_at) = (0, -1, -1, -1, 0, 0, 0, -1);
    my ($torn_first, $torn_near) = (-1, -1);
    my ($begin, $kind, $small) = ($before >= 0 && $before < $offset ? $before : $offset, 0, 0);
    my ($handle, $size) = @$file{'handle', 'size'};
    my ($data, @samples, @gaps) = ('');
    while ($offset < $size && $frames < $most) {
        my ($length, $type, $number, $time);
        if (!$small && sysseek($handle, $offset, SEEK_SET) && (sysread $handle, $data, $HEAD) == $HEAD) {
            # Nearly all frames are of this kind; the rest of this loop and `head_of` do for all.
            my ($first, $high, $low, $of, $blocks, $item, $later, $sooner, $event_of) = unpack $USUAL, $data;
            if (!($first & 0x80) && $blocks == 1 && ($of == 1 || $of == 2) && ($item == 2 || $item == 4)) {
                my $bytes = ($high * 65536 + $low) * 2 ** ($first & 15);
                ($length, $type, $number, $time) = ($bytes, $of, $event_of, $later * 4294967296 + $sooner)
                    if $bytes >= 256 && $bytes <= $LONGEST;
            }
        }
        ($length, $type, $number, $time) = head_at($file, $offset, $small) if !defined $length;
        if ($offset + ($length // ($grows ? $HEAD : 0)) > $size) {
            $torn_at = $offset if $still;
            last;
        }
        if (!defined $length) {
            my $end = $offset + $SEARCHED < $size ? $offset + $SEARCHED : $size;
            my $found = find_frame($file, $begin < $offset ? $begin + 1 : $begin, $end, $grows);
            if ($found == $UNDECIDED) {
                $torn_at = $offset if $still;
                last;
            }
            ($torn, $torn_at) = ($torn + 1, $found > $NONE && $found < $offset ? $begin : $offset);
            ($torn_first, $torn_near) = ($torn_at, $event) if $torn == 1;
            if ($found == $NONE) {
                ($begin, $offset, $kind) = ($end, $end, 0);
                last;
            }
            $begin = $offset = $found;
            next;
        }
        ($begin, $kind, $small) = ($offset, $type, $length < $SMALL);
        $offset += $length;
        next if $number < 0;
        if ($event >= 0) {
            $back++ if $number <= $event;
            if ($number > $event + 1) {
                my $left_out = $number - $event - 1;
                $missing += $left_out;
                push @gaps, number($event + 1) . ':' . number($left_out) if @gaps < $gaps_most;
            }
        }
        ($event, $ticks) = ($number, $time);
        $first = $event if $first < 0;
        $frames++;
        push @samples, "$event:" . number($ticks) if $event % $step == 0;
        if ($gaps_most && @samples > $samples_most && $step < 2**32) {
            $step *= 2;
            @samples = grep { /\A(\d+)/ && $1 % $step == 0 } @samples;
        }
    }
    splice @samples, 1, @samples - $samples_most if @samples > $samples_most;
    my $triggers = '';
    if ($kind == 8) {
        my $data = bytes_at($file->{handle}, $file->{path}, $begin, $HEAD);
        $triggers = join ' ', unpack ord($data) & 0x80 ? 'x24V4' : 'x24N4', $data;
    }
    my @numbers = (
        $file->{size}, $offset, $frames, $first, $frames ? $event : -1,
        $ticks, $missing, $back, $torn, $torn_at, $begin, $jump, $torn_first, $torn_near
    );
    return ($frames, join(' ', map { number($_) } @numbers), "@samples", $triggers, "@gaps");
}

# Whether a file comes after another of the same sender, by the time of its stream and its part.
sub in_order {
    my ($one, $other) = @_;
    return $one->[1] cmp $other->[1] || $one->[2] <=> $other->[2];
}

# The files of one sender to look at: [file, most frames, whether to begin near its end] each.
sub to_look_at {
    my ($files, $cursor, $most, $jump_bytes) = @_;
    my ($inside, $there, @files) = ('', 0, @$files);
    if ($cursor) {
        my ($name, $offset) = @$cursor;
        my @place = $name =~ $NAME;
        @files = grep { in_order($_, \@place) > 0 || ($_->[3] eq $name && $offset >= 0) } @files;
        ($inside, $there) = ($name, $offset) if grep { $_->[3] eq $name } @files;
    }
    my $new = -$there;
    $new += $_->[4] for @files;
    return map { [$_, $most, 0] } @files if $new <= $jump_bytes;
    my @begun = grep { $_->[2] == 0 && $_->[3] ne $inside } @files;
    my ($last) = grep { $_->[4] } reverse @files;
    return ((map { [$_, 1, 0] } @begun), [$last, $most, 1]);
}

# The frames of one file of a run's folder, from an offset on, or near its end.
sub hop_file {
    my ($offset, $before, $most, $samples_most, $gaps_most, @place) = @_;
    my $name = pop @place;
    setpriority 0, 0, 19;
    my ($path) = go(@place);
    my $handle = open_file($name, "$path/$name");
    my %file = (handle => $handle, path => "$path/$name", size => -s $handle, block => '', begin => 0);
    my ($frames, @fields) = hop(
        \%file, $offset, $before, 1, 0, 1, $most, $samples_most, $offset < 0 ? 1 : 0, $gaps_most
    );
    return @fields;
}

# The frames of a staging folder's files; the numbers are limits, then come sender, file, offset, size
# and `before` of each cursor.
sub look {
    my ($staging, $step, $frames_most, $jump_bytes, $samples_most, $pieces_most, @cursors) = @_;
    setpriority 0, 0, 19;
    my ($path) = go($staging);
    my (%cursors, %senders, @answer);
    while (my ($sender, @cursor) = splice @cursors, 0, 5) {
        $cursors{$sender} = \@cursor;
    }
    for my $file (data_files($path, [])) {
        my @parts = $file->[0] =~ $NAME or next;
        push @{$senders{$parts[0]}}, [@parts, $file->[0], $file->[1]];
    }
    for my $sender (sort keys %senders) {
        my $left = int($frames_most / keys %senders);
        my @files = sort { in_order($a, $b) } @{$senders{$sender}};
        my $cursor = $cursors{$sender};
        for my $task (to_look_at(\@files, $cursor, $frames_most, $jump_bytes)) {
            my ($of, $most, $jump) = @$task;
            last if $left <= 0 || @answer >= 4 * $pieces_most;
            my $name = $of->[3];
            next if !there($name);
            my $handle = open_file($name, "$path/$name");
            my %file = (handle => $handle, path => "$path/$name", size => -s $handle, block => '', begin => 0);
            my $here = $cursor && $cursor->[0] eq $name ? $cursor : undef;
            my $grows = $name eq $files[-1][3] ? 1 : 0;
            my $still = !$grows || ($here && $here->[2] == $file{size});
            my ($frames, @fields) = hop(
                \%file, $here ? @$here[1, 3] : (0, -1), $still, $grows, $step, $most < $left ? $most : $left,
                $samples_most, $jump, 0
            );
            $left -= $frames;
            push @answer, $name, @fields[0 .. 2];
        }
    }
    return @answer;
}
