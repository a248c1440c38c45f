#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: erl
# seconds: 120
# where: uffd mprotect kmod
# Erlang's JIT maps one memfd twice; other translators crash on it.
exec erl +S 2:2 -noinput -noshell -eval '
F = fun F(N) when N < 2 -> N; F(N) -> F(N - 1) + F(N - 2) end,
io:format("~p~n", [F(20)]),
io:format("~p~n", [lists:sum([X * X || X <- lists:seq(1, 1000), X rem 3 == 0])]),
Self = self(),
Pids = [spawn(fun() -> Self ! {I, lists:foldl(fun(X, A) -> (A * 31 + X) rem 1000003 end, I, lists:seq(1, 2000))} end) || I <- lists:seq(1, 50)],
R = [receive {I, V} -> V end || I <- lists:seq(1, length(Pids))],
io:format("~p~n", [R]),
{ok, T, B} = compile:forms([{attribute,1,module,codewp_gen},{attribute,1,export,[{f,1}]},
  {function,1,f,1,[{clause,1,[{var,1,x}],[],[{op,1,list_to_atom("*"),{var,1,x},{integer,1,7}}]}]}], []),
{module, T} = code:load_binary(T, "codewp_gen", B),
io:format("~p~n", [codewp_gen:f(6)]),
{ok, Bin} = file:read_file(os:getenv("WORDS")),
io:format("~p ~p~n", [byte_size(Bin), erlang:md5(Bin)]),
io:format("~p~n", [length(re:split(Bin, "fox"))]),
io:format("~p~n", [catch 1 / (length(R) - 50)]),
E = ets:new(t, []), [ets:insert(E, {K, K * K}) || K <- lists:seq(1, 500)],
io:format("~p~n", [ets:lookup(E, 77)]),
receive after 20 -> ok end,
halt(5).'
