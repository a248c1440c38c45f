#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: sqlite3
sqlite3 db <<'SQL'
CREATE TABLE t(id INTEGER PRIMARY KEY, a INT, b TEXT, c REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
INSERT INTO t SELECT i, i * 7919 % 1009, printf('row %d', i), i / 7.0 FROM n;
CREATE INDEX ta ON t(a); ANALYZE;
SELECT count(*), sum(a), max(b), round(avg(c), 6) FROM t;
SELECT a, count(*) FROM t GROUP BY a HAVING count(*) > 4 ORDER BY 2 DESC, 1 LIMIT 5;
SELECT x.id, y.id FROM t x JOIN t y ON x.a = y.a AND x.id < y.id ORDER BY 1, 2 LIMIT 5;
BEGIN; DELETE FROM t WHERE a % 3 = 0; ROLLBACK; UPDATE t SET b = upper(b) WHERE id % 2; SELECT b FROM t LIMIT 3;
SELECT json_group_array(a) FROM (SELECT a FROM t LIMIT 5), (SELECT 1);
SELECT id, row_number() OVER (PARTITION BY a % 5 ORDER BY c DESC) FROM t LIMIT 4;
SELECT hex(substr(b, 1, 3)), b LIKE 'ROW%', b GLOB '*9' FROM t WHERE id = 99;
PRAGMA journal_mode = wal; INSERT INTO t VALUES (9999, 1, 'x', 2); PRAGMA integrity_check; VACUUM;
SQL
sqlite3 db .dump | md5sum; sqlite3 -header -csv db 'SELECT * FROM t LIMIT 3'
sqlite3 -json db 'SELECT a, c FROM t LIMIT 2'; sqlite3 db 'SELECT nothing' 2>&1; echo $?
for i in 1 2 3; do sqlite3 -cmd '.timeout 20000' db "UPDATE t SET a = a + 1 WHERE id <= 10" & done; wait
sqlite3 db 'SELECT sum(a) FROM t WHERE id <= 10'
