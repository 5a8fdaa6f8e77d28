package main

import (
	"encoding/json"
	"io"
	"os"
)

// report writes one JSON object per line. Every *_ns that names an instant is CLOCK_MONOTONIC.
type report struct {
	lines *json.Encoder
}

func newReport(out io.Writer) *report {
	return &report{lines: json.NewEncoder(out)}
}

// header begins every line.
type header struct {
	Event string `json:"event"`
	Pid   int    `json:"pid"`
}

// span is what every line about work has: when, and what was done.
type span struct {
	StartNs  int64 `json:"start_ns"`
	EndNs    int64 `json:"end_ns"`
	WallNs   int64 `json:"wall_ns"`
	Spawns   int   `json:"spawns"`
	Failures int   `json:"failures"`
	// ExecNs: sum of all cmd.Run times; StartCallsNs: the part of it inside cmd.Start, fork to exec.
	ExecNs       int64 `json:"exec_ns"`
	StartCallsNs int64 `json:"start_calls_ns"`
	// ExecBusyNs: time with at least one child under way (the union of the intervals).
	ExecBusyNs int64 `json:"exec_busy_ns"`
	// FirstSpawnNs, LastReapNs: instants, 0 when there was no child.
	FirstSpawnNs    int64                  `json:"first_spawn_ns"`
	LastReapNs      int64                  `json:"last_reap_ns"`
	Classes         map[string]*classCount `json:"classes"`
	NetlinkMessages int                    `json:"netlink_messages"`
	NetlinkErrors   int                    `json:"netlink_errors"`
	NetlinkNs       int64                  `json:"netlink_ns"`
	FirstFailure    string                 `json:"first_failure,omitempty"`
}

func newSpan(start, end int64, t *tally) span {
	return span{
		StartNs: start, EndNs: end, WallNs: end - start,
		Spawns: t.spawns, Failures: t.failures,
		ExecNs: t.execNs, StartCallsNs: t.startNs, ExecBusyNs: t.busyNs,
		FirstSpawnNs: t.firstSpawnNs, LastReapNs: t.lastReapNs,
		Classes:         t.classes,
		NetlinkMessages: t.netlinkMessages, NetlinkErrors: t.netlinkErrors, NetlinkNs: t.netlinkNs,
		FirstFailure: t.firstFailure,
	}
}

func modeName(batch bool) string {
	if batch {
		return "batch"
	}
	return "exec"
}

// ready: namespace, sets and device exist; the span is the set-up with its few children.
func (r *report) ready(cfg config, start, end int64, t *tally) {
	r.write(struct {
		header
		Mode     string `json:"mode"`
		Services int    `json:"services"`
		Workers  int    `json:"workers"`
		span
	}{r.header("ready"), modeName(cfg.batch), cfg.services, cfg.workers, newSpan(start, end, t)})
}

// phase: one phase of a resync ended.
func (r *report) phase(resync int, name string, start, end int64, t *tally) {
	r.write(struct {
		header
		Resync int    `json:"resync"`
		Phase  string `json:"phase"`
		span
	}{r.header("phase"), resync, name, newSpan(start, end, t)})
}

// resync: one resync ended; the span covers all its phases and the pauses between them. A resync that a signal
// cut short is not complete.
func (r *report) resync(resync int, cfg config, start, end int64, t *tally, complete bool) {
	s := newSpan(start, end, t)
	r.write(struct {
		header
		Resync   int    `json:"resync"`
		Mode     string `json:"mode"`
		Services int    `json:"services"`
		Workers  int    `json:"workers"`
		Complete bool   `json:"complete"`
		// ExecShare: exec_busy_ns as a part of wall_ns.
		ExecShare float64 `json:"exec_share"`
		span
	}{r.header("resync"), resync, modeName(cfg.batch), cfg.services, cfg.workers, complete,
		float64(s.ExecBusyNs) / float64(s.WallNs), s})
}

// stopped: the last line of an orderly end; resyncs counts the complete ones.
func (r *report) stopped(resyncs int, reason string) {
	r.write(struct {
		header
		Resyncs int    `json:"resyncs"`
		Reason  string `json:"reason"`
	}{r.header("stopped"), resyncs, reason})
}

func (r *report) header(event string) header {
	return header{Event: event, Pid: os.Getpid()}
}

// write ends the program when nobody listens any more: a witness without a reader is of no use.
func (r *report) write(line any) {
	if err := r.lines.Encode(line); err != nil {
		fail(1, err)
	}
}
