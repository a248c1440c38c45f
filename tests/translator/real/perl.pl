#!/usr/bin/perl -w
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: perl
use strict;
use Digest::MD5 qw(md5_hex);
use Time::HiRes qw(ualarm sleep);
$| = 1;
open my $f, '<', $ENV{WORDS} or die;
my (%n, @lines);
while (<$f>) { push @lines, $_; $n{$_}++ for split }
print join(' ', map { "$_=$n{$_}" } (sort { $n{$b} <=> $n{$a} || $a cmp $b } keys %n)[0 .. 9]), "\n";
print md5_hex(join '', sort { length $a <=> length $b or $a cmp $b } @lines), "\n";
my $t = join '', @lines;
print scalar(() = $t =~ /\b(\w+) \1\b/g), ' ', ($t =~ s/(fox|dog)/<$1>/gr) =~ tr/<//, "\n";
print "@{[grep { (1 x $_) !~ /^(11+)\1+$/ && $_ > 1 } 1 .. 60]}\n";
for my $i (1 .. 4) {
	my $pid = fork // die;
	exit $i * 3 unless $pid;
	waitpid $pid, 0;
	print $? >> 8, "\n";
}
pipe my $r, my $w;
if (!fork) { close $r; print $w "from the child ", $$ != getppid, "\n"; exit }
close $w; print <$r>; wait;
print `echo back; exit 2`, $? >> 8, "\n";
my $hits = 0; local $SIG{ALRM} = sub { $hits++ };
ualarm 20_000, 20_000; my $x = 0; $x += $_ * $_ % 7 for 1 .. 300_000; 1 while $hits < 3; ualarm 0;
print "$x\n";
local $SIG{USR1} = sub { print "USR1\n" }; kill USR1 => $$;
eval { local $SIG{__DIE__} = sub { print "dying: $_[0]" }; die "oops\n" }; print "caught $@";
open my $p, '-|', 'sort', '-r' or die if 0;
open $p, '|-', 'sort -n | tr "\n" " "' or die; print $p "$_\n" for 5, 30, 1; close $p; print "\n";
printf "%s %.10g %s\n", 2 ** 64, exp 1, join ',', unpack 'A2 x N n', pack 'A2 x N n', 'ab', 7, 8;
my @sorted = sort { $a <=> $b } map { $_ * 7919 % 10007 } 1 .. 5000; print "$sorted[0] $sorted[-1]\n";
my $s = sprintf '%vd', '1.22.333'; print "$s\n"; print "ok\n" if "\x{263a}" =~ /\p{So}/;
kill KILL => fork || sleep 10; wait; print $? & 127, "\n";
exit 9;
