// SPDX-License-Identifier: GPL-2.0 OR MIT

// Threads, channels, locks, unwinding, an overflowing stack.
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Barrier, Condvar, Mutex, RwLock};
use std::thread;
use std::time::Duration;

struct Loud(u32);

impl Drop for Loud {
    fn drop(&mut self) {
        println!("drop {}", self.0);
    }
}

fn overflow(n: u64) -> u64 {
    let a = [n; 100];
    if n == u64::MAX {
        return 0;
    }
    overflow(n + 1) + unsafe { std::ptr::read_volatile(&a[n as usize % 100]) }
}

fn unwinds(depth: u32) -> u32 {
    let _l = Loud(depth);
    if depth == 3 {
        let v: Vec<u32> = vec![1, 2, 3];
        return v[depth as usize + std::env::args().count()];
    }
    unwinds(depth + 1) + 1
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("panic") => panic!("as asked"),
        Some("abort") => std::process::abort(),
        Some("overflow") => println!("{}", overflow(0)),
        Some("exit") => std::process::exit(9),
        _ => {}
    }
    std::panic::set_hook(Box::new(|_| {}));
    println!("{}", std::panic::catch_unwind(|| unwinds(0)).is_err());
    println!("{:?}", thread::spawn(|| { if true { panic!("in a thread") } }).join().is_err());

    let count = Arc::new(AtomicU64::new(0));
    let map = Arc::new(Mutex::new(HashMap::new()));
    let barrier = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8u64)
        .map(|t| {
            let (count, map, barrier) = (count.clone(), map.clone(), barrier.clone());
            thread::spawn(move || {
                barrier.wait();
                for i in 0..2000u64 {
                    count.fetch_add(i ^ t, Ordering::Relaxed);
                    *map.lock().unwrap().entry(i % 97).or_insert(0u64) += i;
                }
                t * t
            })
        })
        .collect();
    let squares: u64 = threads.into_iter().map(|t| t.join().unwrap()).sum();
    let sorted: BTreeMap<_, _> = map.lock().unwrap().clone().into_iter().collect();
    println!("{} {} {:?}", squares, count.load(Ordering::SeqCst), sorted.iter().take(3).collect::<Vec<_>>());

    let (tx, rx) = mpsc::channel();
    for i in 0..5 {
        let tx = tx.clone();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(5 * (5 - i)));
            tx.send(i).unwrap();
        });
    }
    drop(tx);
    let mut got: Vec<_> = rx.iter().collect();
    got.sort();
    println!("{:?}", got);

    let pair = Arc::new((Mutex::new(false), Condvar::new()));
    let other = pair.clone();
    thread::spawn(move || {
        *other.0.lock().unwrap() = true;
        other.1.notify_all();
    });
    let mut ready = pair.0.lock().unwrap();
    while !*ready {
        ready = pair.1.wait(ready).unwrap();
    }
    println!("{}", *ready);
    let lock = RwLock::new(5);
    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| *lock.write().unwrap() += 1);
        }
    });
    println!("{}", *lock.read().unwrap());
    for _ in 0..200 {
        thread::spawn(|| {}).join().unwrap();
    }
    let x: f64 = (1..1000).map(|i| 1.0 / (i as f64).powi(2)).sum();
    println!("{:.12} {}", x, "ümlaut".to_uppercase());
    std::process::exit(12);
}
