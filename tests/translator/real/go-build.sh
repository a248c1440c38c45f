#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: go
# seconds: 120
# where: uffd
# The Go compiler and linker themselves.
export GOCACHE=$HOME/cache GOFLAGS=-mod=mod GO111MODULE=off GOPATH=$HOME/go
printf 'package main\nfunc main() { println("compiled") }\n' >m.go
go build -p 2 -o m m.go && ./m 2>&1; gofmt -l m.go; go version
