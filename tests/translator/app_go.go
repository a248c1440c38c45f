// SPDX-License-Identifier: GPL-2.0 OR MIT

// Goroutines that are preempted by SIGURG, the collector, timers, channels,
// maps, panics, HTTP over loopback. Prints nothing that depends on time.
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type node struct {
	left, right *node
	v           int
}

func tree(d int) *node {
	if d == 0 {
		return &node{v: 1}
	}
	return &node{tree(d - 1), tree(d - 1), d}
}

func (n *node) sum() int {
	if n == nil {
		return 0
	}
	return n.v + n.left.sum() + n.right.sum()
}

// A loop without a call in it: only a signal takes the processor from it.
func spin(stop *int32, n *int64) {
	for atomic.LoadInt32(stop) == 0 {
		*n++
	}
}

func deep(n int) int {
	var pad [64]byte
	pad[n%64] = 1
	if n == 0 {
		return int(pad[1])
	}
	return deep(n-1) + int(pad[n%64])
}

func preempted() {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var stop int32
	var n int64
	done := make(chan bool)
	go func() { spin(&stop, &n); done <- true }()
	go func() {
		x := uint32(1)
		for i := 0; ; i++ {
			x = x*1664525 + 1013904223
			if x == 0 && i < 0 {
				break
			}
		}
	}()
	for i := 0; i < 5; i++ {
		time.Sleep(5 * time.Millisecond)
	}
	atomic.StoreInt32(&stop, 1)
	<-done
	fmt.Println("preempted", n > 0)
}

func workers() {
	var wg sync.WaitGroup
	var mu sync.Mutex
	total, jobs := 0, make(chan int)
	for w := 0; w < 20; w++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for j := range jobs {
				h := sha256.Sum256([]byte(fmt.Sprint(j)))
				mu.Lock()
				total += int(h[0])
				mu.Unlock()
			}
		}()
	}
	for i := 0; i < 3000; i++ {
		jobs <- i
	}
	close(jobs)
	wg.Wait()
	fmt.Println("workers", total)
}

func collector() {
	sum := 0
	for i := 0; i < 20; i++ {
		sum += tree(11).sum()
		if i%5 == 0 {
			runtime.GC()
		}
	}
	m := map[string]int{}
	for i := 0; i < 20000; i++ {
		m[fmt.Sprint(i%997)] += i
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	fmt.Println("collector", sum, len(m), m[keys[5]], deep(20000))
}

func timers() {
	order := make(chan int, 3)
	for _, d := range []int{60, 20, 40} {
		d := d
		time.AfterFunc(time.Duration(d)*time.Millisecond, func() { order <- d })
	}
	/* all of them; in which order is the scheduler's business when it is late */
	fmt.Println("timers", <-order+<-order+<-order)
	select {
	case <-order:
		fmt.Println("too many")
	case <-time.After(10 * time.Millisecond):
	}
}

func web() {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %d", r.Method, r.URL.Path, len(body))
	}))
	defer s.Close()
	out := make([]string, 8)
	var wg sync.WaitGroup
	for i := range out {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			r, err := http.Post(fmt.Sprintf("%s/%d", s.URL, i), "text/plain",
				strings.NewReader(strings.Repeat("x", i*10000)))
			if err != nil {
				out[i] = err.Error()
				return
			}
			b, _ := io.ReadAll(r.Body)
			r.Body.Close()
			out[i] = string(b)
		}(i)
	}
	wg.Wait()
	fmt.Println("web", out)
}

func recovered(f func()) {
	defer func() { fmt.Println("recovered", recover()) }()
	f()
}

func main() {
	var p *node
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "panic":
			panic("as asked")
		case "segv":
			fmt.Println(p.v)
		}
	}
	preempted()
	workers()
	collector()
	timers()
	web()
	recovered(func() { fmt.Println(p.v) })
	recovered(func() { a := make([]int, 3); fmt.Println(a[len(os.Args)+5]) })
	recovered(func() { fmt.Println(1 / (len(os.Args) - len(os.Args))) })
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	syscall.Kill(os.Getpid(), syscall.SIGUSR1)
	fmt.Println(<-c)
	b, err := exec.Command("sh", "-c", "echo child; kill -TERM $$").Output()
	fmt.Printf("%q %v\n", b, err)
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(bytes.Repeat([]byte("words "), 10000))
	w.Close()
	r, _ := gzip.NewReader(&z)
	n, _ := io.Copy(io.Discard, r)
	fmt.Println(n)
	os.Exit(7)
}
