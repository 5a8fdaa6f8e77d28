// pprofserver computes in functions of known names, and serves its own profile by net/http/pprof: the witness for
// slowpod's profile of the same process. It prints where it listens as a line of JSON, and ends with its stdin.
package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"sort"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// slices are the turns of one round, in CPU time. A slice is longer than a profiler's period, so that chance has little
// say in how often it is met.
var slices = []struct {
	work func() int
	time time.Duration
}{
	{spinAdd, 36 * time.Millisecond},
	{spinMultiply, 30 * time.Millisecond},
	{hash, 24 * time.Millisecond},
	{checksum, 20 * time.Millisecond},
	{sortNumbers, 20 * time.Millisecond},
	{fillMap, 20 * time.Millisecond},
	{encode, 20 * time.Millisecond},
	{joinWords, 16 * time.Millisecond},
	{copyBytes, 14 * time.Millisecond},
}

var sink int

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, "pprofserver:", err)
		os.Exit(1)
	}
	for range [2]struct{}{} {
		go compute()
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Printf("{\"address\":%q}\n", listener.Addr())
	fmt.Fprintln(os.Stderr, "pprofserver:", http.Serve(listener, nil))
	os.Exit(1)
}

// threadCPU is the CPU time of the calling thread: clock_gettime(CLOCK_THREAD_CPUTIME_ID).
func threadCPU() time.Duration {
	const threadClock = 3
	var now syscall.Timespec
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, threadClock, uintptr(unsafe.Pointer(&now)), 0)
	if errno != 0 {
		panic(errno)
	}
	return time.Duration(now.Nano())
}

func compute() {
	runtime.LockOSThread()
	sum := 0
	for {
		for _, slice := range slices {
			for begun := threadCPU(); threadCPU()-begun < slice.time; {
				sum += slice.work()
			}
		}
		if sum == 0 {
			sink++
		}
	}
}

//go:noinline
func spinAdd() int {
	sum := 0
	for i := 0; i < 40_000; i++ {
		sum += i ^ sum>>3
	}
	return sum
}

//go:noinline
func spinMultiply() int {
	product := 1
	for i := 1; i < 30_000; i++ {
		product = product*i + 1
	}
	return product
}

var block = []byte(strings.Repeat("slowpod ", 1024))

func hash() int { return int(sha256.Sum256(block)[0]) }

// The table is a slice-by-8 of plain Go, since this polynomial has no instruction.
var table = crc32.MakeTable(crc32.Koopman)

func checksum() int { return int(crc32.Checksum(block, table)) }

func sortNumbers() int {
	numbers := make([]int, 1_000)
	for i := range numbers {
		numbers[i] = i * 7919 % 1_000
	}
	sort.Ints(numbers)
	return numbers[0]
}

func fillMap() int {
	counts := map[int]int{}
	for i := 0; i < 500; i++ {
		counts[i*31%257]++
	}
	return len(counts)
}

func encode() int {
	text, _ := json.Marshal(map[string]any{"words": []string{"a", "b", "c"}, "number": 4.5})
	return len(text)
}

func joinWords() int {
	joined := ""
	for i := 0; i < 50; i++ {
		joined += "word "
	}
	return len(strings.Fields(joined))
}

func copyBytes() int {
	other := make([]byte, len(block))
	return copy(other, block)
}
