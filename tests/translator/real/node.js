#!/usr/bin/node
// SPDX-License-Identifier: GPL-2.0 OR MIT
// needs: node
// seconds: 120
'use strict';
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const crypto = require('crypto'), fs = require('fs'), zlib = require('zlib');
const { execFileSync, spawn } = require('child_process');

function work(n) {
	let s = 0;
	for (let i = 0; i < n; i++) s = (s * 31 + (i ^ (s >>> 3))) | 0;
	return s;
}
if (!isMainThread) {
	parentPort.postMessage(work(workerData));
} else {
	(async () => {
		console.log(work(3000000));
		const results = await Promise.all([1, 2, 3, 4].map(i => new Promise((ok, bad) =>
			new Worker(__filename, { workerData: i * 200000 }).on('message', ok).on('error', bad))));
		console.log(results.join());
		const text = fs.readFileSync(process.env.WORDS, 'utf8');
		console.log(crypto.createHash('sha256').update(text).digest('hex'));
		console.log(zlib.gunzipSync(zlib.gzipSync(text)).length, text.match(/\b(\w)\w*\1\b/g).length);
		const m = new Map(text.split(/\s+/).map((w, i) => [w, i]));
		console.log([...m.entries()].sort((a, b) => b[1] - a[1]).slice(0, 3));
		class A { constructor(x) { this.x = x; } get() { return this.x; } }
		class B extends A { get() { return super.get() * 2; } }
		let t = 0;
		for (let i = 0; i < 200000; i++) t += (i % 3 ? new A(i) : new B(i)).get();	/* deoptimises */
		console.log(t, 2n ** 100n, [3, 1, 2].sort(), JSON.stringify({ a: [1, { b: null }] }));
		try { null.x; } catch (e) { console.log(e.message); }
		console.log(execFileSync('echo', ['child']).toString().trim());
		await new Promise(ok => setTimeout(ok, 20));
		const c = spawn('sh', ['-c', 'cat; exit 3']);
		c.stdout.on('data', d => console.log('piped', d.toString()));
		c.stdin.end('data');
		await new Promise(ok => c.on('close', code => { console.log('closed', code); ok(); }));
		const wasm = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 7, 1, 96, 2, 127, 127, 1, 127, 3, 2, 1,
			0, 7, 7, 1, 3, 97, 100, 100, 0, 0, 10, 9, 1, 7, 0, 32, 0, 32, 1, 106, 11]);
		const { instance } = await WebAssembly.instantiate(wasm);
		let w = 0;
		for (let i = 0; i < 100000; i++) w = instance.exports.add(w, i);
		console.log(w, new Function('a', 'return a * 7')(6), eval('1 + 1'));
		const async = await fs.promises.readdir('.');
		console.log(async.length);
		process.exitCode = 6;
	})();
}
