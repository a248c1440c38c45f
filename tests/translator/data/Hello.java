// SPDX-License-Identifier: GPL-2.0 OR MIT
public class Hello {
	public static void main(String[] args) {
		System.out.println("Hello, " + String.join("/", args));
		int s = 0;
		for (int i = 0; i < 100_000; i++)
			s = s * 31 + i;
		System.out.println(s);
		System.exit(3);
	}
}
