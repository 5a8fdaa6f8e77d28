package main

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
)

// tools are the full paths of the programs that are run.
type tools struct {
	ipset string
	ip    string
}

func findTools() (tools, error) {
	ipset, err := exec.LookPath("ipset")
	if err != nil {
		return tools{}, fmt.Errorf("no ipset on PATH: apt-get install ipset")
	}
	ip, err := exec.LookPath("ip")
	if err != nil {
		return tools{}, fmt.Errorf("no ip on PATH: apt-get install iproute2")
	}
	return tools{ipset: ipset, ip: ip}, nil
}

// tally adds up what one phase (or resync) did. Safe for several workers.
type tally struct {
	mu      sync.Mutex
	classes map[string]*classCount

	spawns   int
	failures int
	// execNs is the sum over children from before cmd.Start to after they were reaped; startNs the part inside
	// cmd.Start (fork to exec).
	execNs  int64
	startNs int64
	// busyNs is the time with at least one child under way: with one worker it equals execNs.
	busyNs    int64
	busySince int64
	underWay  int
	// firstSpawnNs and lastReapNs bound the children of the phase (0 = there were none).
	firstSpawnNs int64
	lastReapNs   int64

	netlinkMessages int
	netlinkErrors   int
	netlinkNs       int64

	firstFailure string
}

// classCount is the part of a tally that belongs to one argv class.
type classCount struct {
	Spawns   int   `json:"spawns"`
	Failures int   `json:"failures"`
	ExecNs   int64 `json:"exec_ns"`
}

func newTally() *tally {
	return &tally{classes: map[string]*classCount{}}
}

// runCommand runs one child to its end and accounts for it under its argv class. The child's account ends when it is
// reaped: that goroutines then hand over its output, and on a busy machine queue for a CPU to do so, is the daemon's
// own work.
//
//go:noinline
func (t *tally) runCommand(class string, argv []string, stdin io.Reader) error {
	var output bytes.Buffer
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &output, &output

	begun := t.begin()
	err := cmd.Start()
	started := monotonicNs()
	if err != nil {
		t.end(class, begun, started, false, false)
		t.noteFailure(err)
		return err
	}
	state, err := cmd.Process.Wait()
	if err == nil && !state.Success() {
		err = &exec.ExitError{ProcessState: state}
	}
	t.end(class, begun, started, true, err == nil)
	// It is reaped already, which this says; it still waits for the output.
	_ = cmd.Wait()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(output.String()))
		t.noteFailure(err)
	}
	return err
}

// begin notes that a child is about to be started.
func (t *tally) begin() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := monotonicNs()
	if t.underWay == 0 {
		t.busySince = now
	}
	t.underWay++
	if t.firstSpawnNs == 0 {
		t.firstSpawnNs = now
	}
	return now
}

// end notes that a child was reaped, or could not be started.
func (t *tally) end(class string, begun, started int64, spawned, succeeded bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := monotonicNs()
	t.underWay--
	if t.underWay == 0 {
		t.busyNs += now - t.busySince
	}
	count := t.classes[class]
	if count == nil {
		count = &classCount{}
		t.classes[class] = count
	}
	if spawned {
		t.spawns++
		count.Spawns++
	}
	if !succeeded {
		count.Failures++
		t.failures++
	}
	count.ExecNs += now - begun
	t.execNs += now - begun
	t.startNs += started - begun
	t.lastReapNs = now
}

// noteFailure keeps the words of the first failure for the report.
func (t *tally) noteFailure(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.firstFailure == "" {
		t.firstFailure = err.Error()
	}
}

// add puts a later phase's tally into the resync's.
func (t *tally) add(phase *tally) {
	for class, count := range phase.classes {
		sum := t.classes[class]
		if sum == nil {
			sum = &classCount{}
			t.classes[class] = sum
		}
		sum.Spawns += count.Spawns
		sum.Failures += count.Failures
		sum.ExecNs += count.ExecNs
	}
	t.spawns += phase.spawns
	t.failures += phase.failures
	t.execNs += phase.execNs
	t.startNs += phase.startNs
	t.busyNs += phase.busyNs
	if t.firstSpawnNs == 0 {
		t.firstSpawnNs = phase.firstSpawnNs
	}
	if phase.lastReapNs != 0 {
		t.lastReapNs = phase.lastReapNs
	}
	t.netlinkMessages += phase.netlinkMessages
	t.netlinkErrors += phase.netlinkErrors
	t.netlinkNs += phase.netlinkNs
	if t.firstFailure == "" {
		t.firstFailure = phase.firstFailure
	}
}
