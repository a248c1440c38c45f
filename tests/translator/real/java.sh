#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: /usr/lib/jvm/java-17-openjdk-amd64/bin/java /usr/lib/jvm/java-17-openjdk-amd64/bin/javac
# seconds: 120
# The compilers: C1 and C2 as they come, C1 only, the interpreter; serial and parallel collector.
export PATH=/usr/lib/jvm/java-17-openjdk-amd64/bin:$PATH
cp "$REAL/../data/Work.java" . && javac Work.java || exit
java -Xshare:auto Work; echo $?
java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx64m Work; echo $?
