// Command serviceproxy is a witness for slowpod's tests: a node's service proxy whose every resync is an exec
// storm. Like kube-router it runs `ipset add` once per service for each of two sets, then `ip route replace`
// once per service; unlike it, it states on CLOCK_MONOTONIC what it did and how long that took, so that an
// observer's figures can be compared with its own.
//
// It works in a network namespace of its own, which ends with the process. It prints one JSON object per line;
// report.go defines them. Exit codes: 0 everything was done (or SIGTERM asked it to stop), 1 something failed,
// 2 bad usage.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxServices keeps service addresses inside 10.96.0.0/12 and port sets below ipset's default maxelem (65536).
const maxServices = 60_000

// config is the command line, checked.
type config struct {
	services    int
	resyncs     int
	workers     int
	batch       bool
	period      time.Duration
	idleBetween time.Duration
	phasePause  time.Duration
	ownWork     time.Duration
	readyFile   string
	stdinGate   bool
}

func main() {
	cfg, err := parseFlags(os.Args[1:])
	if err == flag.ErrHelp {
		return
	}
	if err != nil {
		fail(2, err)
	}
	if err := enterOwnNetworkNamespace(); err != nil {
		fail(1, err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, cfg); err != nil {
		fail(1, err)
	}
}

func parseFlags(args []string) (config, error) {
	var cfg config
	var mode string
	flags := flag.NewFlagSet("serviceproxy", flag.ContinueOnError)
	flags.IntVar(&cfg.services, "services", 2000, "services to hold")
	flags.IntVar(&cfg.resyncs, "resyncs", 1, "resyncs to make before ending; 0 = until SIGTERM")
	flags.IntVar(&cfg.workers, "workers", 1, "children to keep running at once")
	flags.StringVar(&mode, "mode", "exec", "exec: one child per service; batch: `ipset restore` and netlink")
	flags.DurationVar(&cfg.period, "period", 0, "from the start of one resync to the start of the next; 0 = use -idle-between")
	flags.DurationVar(&cfg.idleBetween, "idle-between", time.Second, "from the end of one resync to the start of the next")
	flags.DurationVar(&cfg.phasePause, "phase-pause", 0, "pause between the phases of one resync")
	flags.DurationVar(&cfg.ownWork, "own-work", 0, "CPU time to spend on each service of each phase before its child (exec mode)")
	flags.StringVar(&cfg.readyFile, "ready-file", "", "file to write the pid to once sets and device exist")
	flags.BoolVar(&cfg.stdinGate, "stdin-gate", false, "wait for a line on stdin before the first resync; end if stdin closes first")
	if err := flags.Parse(args); err != nil {
		return cfg, err
	}
	cfg.batch = mode == "batch"
	switch {
	case flags.NArg() > 0:
		return cfg, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case mode != "exec" && mode != "batch":
		return cfg, fmt.Errorf("-mode is exec or batch, not %q", mode)
	case cfg.services < 1 || cfg.services > maxServices:
		return cfg, fmt.Errorf("-services must be 1 to %d, not %d", maxServices, cfg.services)
	case cfg.resyncs < 0:
		return cfg, fmt.Errorf("-resyncs must not be negative")
	case cfg.workers < 1 || cfg.workers > 64:
		return cfg, fmt.Errorf("-workers must be 1 to 64, not %d", cfg.workers)
	case cfg.period < 0 || cfg.idleBetween < 0 || cfg.phasePause < 0 || cfg.ownWork < 0:
		return cfg, fmt.Errorf("durations must not be negative")
	}
	return cfg, nil
}

// run sets up the namespace, waits for the word to go, and resyncs until done or told to stop.
func run(ctx context.Context, cfg config) error {
	out := newReport(os.Stdout)
	proxy, err := newProxy(cfg, out)
	if err != nil {
		return err
	}
	if cfg.readyFile != "" {
		if err := writeReadyFile(cfg.readyFile); err != nil {
			return err
		}
	}
	if cfg.stdinGate && !waitForLine(ctx, os.Stdin) {
		out.stopped(0, "stdin closed or signal before the first resync")
		return nil
	}
	done, failed := 0, 0
	for {
		started := time.Now()
		failed += proxy.resync(ctx, done)
		if ctx.Err() != nil {
			break
		}
		done++
		if done == cfg.resyncs {
			break
		}
		pause := cfg.idleBetween
		if cfg.period > 0 {
			pause = cfg.period - time.Since(started)
		}
		if !sleep(ctx, pause) {
			break
		}
	}
	reason := "all resyncs made"
	if ctx.Err() != nil {
		reason = "signal"
	}
	out.stopped(done, reason)
	if failed > 0 {
		return fmt.Errorf("%d operations failed; the resync lines say which", failed)
	}
	return nil
}

// writeReadyFile makes the file appear whole, so that a reader never sees half a pid.
func writeReadyFile(path string) error {
	partial := path + ".partial"
	if err := os.WriteFile(partial, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
		return fmt.Errorf("-ready-file: %w", err)
	}
	if err := os.Rename(partial, path); err != nil {
		return fmt.Errorf("-ready-file: %w", err)
	}
	return nil
}

// waitForLine returns true when a line came, false when stdin ended or the context did.
func waitForLine(ctx context.Context, stdin io.Reader) bool {
	line := make(chan bool, 1)
	go func() {
		_, err := bufio.NewReader(stdin).ReadString('\n')
		line <- err == nil
	}()
	select {
	case got := <-line:
		return got
	case <-ctx.Done():
		return false
	}
}

// sleep returns false when the context ended first.
func sleep(ctx context.Context, pause time.Duration) bool {
	if pause <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-time.After(pause):
		return true
	case <-ctx.Done():
		return false
	}
}

func fail(code int, err error) {
	fmt.Fprintf(os.Stderr, "serviceproxy: %s\n", strings.TrimSpace(err.Error()))
	os.Exit(code)
}
