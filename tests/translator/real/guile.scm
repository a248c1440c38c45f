#!/usr/bin/guile -s
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: guile /usr/lib/x86_64-linux-gnu/guile/3.0
# seconds: 60
# Guile's lightening JIT, threads, continuations, big numbers, a pipe.
!#
(use-modules (ice-9 threads) (ice-9 popen) (ice-9 rdelim) (ice-9 regex) (srfi srfi-1))
(define (fib n) (if (< n 2) n (+ (fib (- n 1)) (fib (- n 2)))))
(display (fib 24)) (newline)
(define (loop i s) (if (= i 0) s (loop (- i 1) (+ s (modulo (* i i) 7)))))
(display (loop 300000 0)) (newline)
(define (fact n) (if (= n 0) 1 (* n (fact (- n 1)))))
(display (modulo (fact 300) (+ (expt 10 40) 7))) (newline)
(display (call/cc (lambda (k) (for-each (lambda (x) (if (> x 3) (k x))) '(1 2 3 4 5)) 'none))) (newline)
(display (apply + (par-map (lambda (i) (loop (* i 1000) 0)) (iota 16)))) (newline)
(define t (call-with-new-thread (lambda () (fib 18))))
(display (join-thread t)) (newline)
(display (sort (map (lambda (i) (modulo (* i 7919) 101)) (iota 30)) <)) (newline)
(display (catch 'my-error (lambda () (throw 'my-error 42)) (lambda (k v) (list k v)))) (newline)
(define p (open-input-pipe "echo from a shell"))
(display (read-line p)) (newline) (close-pipe p)
(display (regexp-substitute/global #f "o+" "foo boot" 'pre "0" 'post)) (newline)
(display (string-length (call-with-input-file (getenv "WORDS") read-string))) (newline)
(gc) (display (eval '(let loop ((i 0)) (if (< i 1000) (loop (+ i 1)) i)) (interaction-environment))) (newline)
(exit 4)
