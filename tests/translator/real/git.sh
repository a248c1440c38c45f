#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: git
# seconds: 120
# Dates and names are fixed, so that every object has the same name each time.
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=C GIT_COMMITTER_EMAIL=c@example.org
export GIT_AUTHOR_DATE='1600000000 +0000' GIT_COMMITTER_DATE='1600000000 +0000' GIT_CONFIG_NOSYSTEM=1
git init -q -b main repo && cd repo || exit
git config pack.threads 2; git config gc.auto 0
for i in {1..8}; do
	head -n $((i * 100)) "$WORDS" >file; echo "$i" >"n$i"; git add .; git commit -q -m "commit $i"
done
git checkout -q -b side HEAD~3; sed -i 's/fox/FOX/' file; git commit -q -a -m side
git checkout -q main; git merge -q -m merge -X ours side; git log --graph --oneline --stat | md5sum
git log --format='%h %s' | head -n 4; git diff --stat HEAD~4; git blame -s file | md5sum
git repack -q -a -d; git fsck --no-progress; git count-objects; git grep -c FOX; git tag -a v1 -m tag
cd .. && git clone -q --no-local repo clone && cd clone && git log -1 --format=%H && git status -s
git rev-list --objects --all | wc -l; echo x >new; git stash -q -u; git stash list | wc -l; git stash pop -q; git status -s
git format-patch -q -1 HEAD~1 -o ..; git archive --format=tar HEAD | md5sum; git describe
git push -q origin HEAD:refs/heads/pushed; git -C ../repo branch; git checkout -q nosuch 2>&1; echo $?
git rebase -q --onto HEAD~3 HEAD~1 2>&1 | head -n 1; git log --oneline | wc -l; git bisect start -q HEAD HEAD~3 >/dev/null; git bisect run true >/dev/null; echo $?
