// SPDX-License-Identifier: GPL-2.0 OR MIT
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import java.util.stream.*;

/** Null checks by SIGSEGV, safepoints, stack overflow, deoptimisation, collections, threads. */
public class Work {
	interface Shape { double area(); }
	record Square(double a) implements Shape { public double area() { return a * a; } }
	record Circle(double r) implements Shape { public double area() { return 3 * r * r; } }
	record Odd(int i) implements Shape { public double area() { return i & 1; } }

	static int depth;
	static void deep() { depth++; deep(); }

	static String text;
	static int nulls(int n) {
		int caught = 0;
		for (int i = 0; i < n; i++) {
			text = i % 100 == 99 ? null : "abc";
			try {
				caught += text.length() - 3;
			} catch (NullPointerException e) {
				caught++;
			}
		}
		return caught;
	}

	public static void main(String[] args) throws Exception {
		long x = 1;
		for (int i = 0; i < 3_000_000; i++)
			x = x * 31 + (i ^ (x >>> 7));
		System.out.println(x);
		System.out.println(nulls(100_000));
		double sum = 0;
		for (int i = 0; i < 200_000; i++) {
			Shape s = i < 100_000 ? new Square(i) : i % 2 == 0 ? new Circle(i) : new Odd(i);
			sum += s.area();
		}
		System.out.println(sum);
		try {
			deep();
		} catch (StackOverflowError e) {
			System.out.println(depth > 1000);
		}
		try {
			System.out.println(1 / (args.length));
		} catch (ArithmeticException e) {
			System.out.println(e.getMessage());
		}
		List<byte[]> keep = new ArrayList<>();
		for (int i = 0; i < 20_000; i++) {
			byte[] b = new byte[2000];
			if (i % 500 == 0)
				keep.add(b);
		}
		System.gc();
		System.out.println(keep.size());
		ExecutorService pool = Executors.newFixedThreadPool(4);
		List<Future<Long>> all = new ArrayList<>();
		for (int t = 0; t < 8; t++) {
			final int seed = t;
			all.add(pool.submit(() -> {
				long v = seed;
				for (int i = 0; i < 200_000; i++)
					v = v * 1103515245 + 12345;
				return v;
			}));
		}
		for (Future<Long> f : all)
			System.out.println(f.get());
		pool.shutdown();
		AtomicInteger n = new AtomicInteger();
		Object lock = new Object();
		int[] plain = new int[1];
		Thread[] threads = new Thread[6];
		for (int t = 0; t < threads.length; t++)
			(threads[t] = new Thread(() -> {
				for (int i = 0; i < 5000; i++) {
					n.incrementAndGet();
					synchronized (lock) {
						plain[0]++;
					}
				}
			})).start();
		for (Thread t : threads)
			t.join();
		System.out.println(n + " " + plain[0]);
		System.out.println(IntStream.range(0, 10_000).parallel().filter(i -> i % 7 == 0)
				.mapToObj(Integer::toString).collect(Collectors.joining()).hashCode());
		Map<String, Integer> map = new TreeMap<>();
		for (String s : "the quick brown fox jumps over the lazy dog the end".split(" "))
			map.merge(s, 1, Integer::sum);
		System.out.println(map);
		Process p = new ProcessBuilder("sh", "-c", "echo child; exit 4").inheritIO().start();
		System.out.println(p.waitFor());
		try {
			((Object[])new String[1])[0] = 1;
		} catch (ArrayStoreException e) {
			System.out.println(e.getMessage());
		}
		System.exit(11);
	}
}
