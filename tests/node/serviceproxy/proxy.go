package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	// addressSet and portSet are the two sets that every resync fills.
	addressSet = "proxy-svc-ips"
	portSet    = "proxy-svc-ports"
	// routeDevice is a bridge without ports, in the place of kube-router's dummy link: not every kernel has those.
	routeDevice = "proxy-if"
	// deviceAddress is link-local, so it cannot meet a service's address.
	deviceAddress = "169.254.20.10/32"
)

// proxy holds the services and the tools that put them into the kernel.
type proxy struct {
	cfg         config
	services    []service
	tools       tools
	out         *report
	deviceIndex int
}

// service is one virtual address and port.
type service struct {
	address net.IP
	port    int
}

// entry is the service as a member of the named set.
func (s service) entry(set string) string {
	if set == portSet {
		return fmt.Sprintf("%s,tcp:%d", s.address, s.port)
	}
	return s.address.String()
}

// newProxy finds the tools and makes sets, device and services.
func newProxy(cfg config, out *report) (*proxy, error) {
	tools, err := findTools()
	if err != nil {
		return nil, err
	}
	p := &proxy{cfg: cfg, tools: tools, out: out, services: makeServices(cfg.services)}
	setUp := newTally()
	start := monotonicNs()
	for _, command := range []struct {
		class string
		argv  []string
	}{
		{"ipset create", []string{tools.ipset, "create", addressSet, "hash:ip", "family", "inet"}},
		{"ipset create", []string{tools.ipset, "create", portSet, "hash:ip,port", "family", "inet"}},
		{"ip link add", []string{tools.ip, "link", "add", "name", routeDevice, "type", "bridge"}},
		{"ip address add", []string{tools.ip, "address", "add", deviceAddress, "dev", routeDevice}},
		{"ip link set", []string{tools.ip, "link", "set", routeDevice, "up"}},
	} {
		if err := setUp.runCommand(command.class, command.argv, nil); err != nil {
			return nil, err
		}
	}
	device, err := net.InterfaceByName(routeDevice)
	if err != nil {
		return nil, fmt.Errorf("the bridge just made: %w", err)
	}
	p.deviceIndex = device.Index
	out.ready(cfg, start, monotonicNs(), setUp)
	return p, nil
}

// makeServices numbers addresses from 10.96.0.1 up.
func makeServices(count int) []service {
	services := make([]service, count)
	for i := range services {
		n := i + 1
		services[i] = service{net.IPv4(10, byte(96+n>>16), byte(n>>8), byte(n)), 1024 + i%60000}
	}
	return services
}

// resync puts every service into both sets and the routing table, and returns how many operations failed.
func (p *proxy) resync(ctx context.Context, number int) int {
	totals := newTally()
	start := monotonicNs()
	for i, phase := range p.phases() {
		if i > 0 && !sleep(ctx, p.cfg.phasePause) {
			break
		}
		tally := newTally()
		phaseStart := monotonicNs()
		phase.run(ctx, tally)
		p.out.phase(number, phase.name, phaseStart, monotonicNs(), tally)
		totals.add(tally)
		if ctx.Err() != nil {
			break
		}
	}
	p.out.resync(number, p.cfg, start, monotonicNs(), totals, ctx.Err() == nil)
	return totals.failures + totals.netlinkErrors
}

// phase is one stretch of a resync.
type phase struct {
	name string
	run  func(context.Context, *tally)
}

func (p *proxy) phases() []phase {
	if p.cfg.batch {
		return []phase{
			{"restoreIPSets " + addressSet, func(_ context.Context, t *tally) { p.restoreIPSet(addressSet, t) }},
			{"restoreIPSets " + portSet, func(_ context.Context, t *tally) { p.restoreIPSet(portSet, t) }},
			{"replaceRoutesByNetlink", p.replaceRoutesByNetlink},
		}
	}
	return []phase{
		{"syncIPSets " + addressSet, func(ctx context.Context, t *tally) { p.syncIPSets(ctx, addressSet, t) }},
		{"syncIPSets " + portSet, func(ctx context.Context, t *tally) { p.syncIPSets(ctx, portSet, t) }},
		{"syncEndpointRoutes", p.syncEndpointRoutes},
	}
}

// syncIPSets adds every service to one set, a child for each. The functions on this path are kept out of line:
// a profiler that resolves addresses only must still find them by name.
//
//go:noinline
func (p *proxy) syncIPSets(ctx context.Context, set string, t *tally) {
	p.forEachService(ctx, func(s service) { p.runIPSetAdd(set, s, t) })
}

// syncEndpointRoutes makes every service's route, a child for each.
//
//go:noinline
func (p *proxy) syncEndpointRoutes(ctx context.Context, t *tally) {
	p.forEachService(ctx, func(s service) { p.runIPRouteReplace(s, t) })
}

//go:noinline
func (p *proxy) runIPSetAdd(set string, s service, t *tally) {
	// The tally keeps the error: one entry that failed must not stop a resync.
	_ = t.runCommand("ipset add", []string{p.tools.ipset, "add", "-exist", set, s.entry(set)}, nil)
}

//go:noinline
func (p *proxy) runIPRouteReplace(s service, t *tally) {
	_ = t.runCommand("ip route replace",
		[]string{p.tools.ip, "route", "replace", s.address.String() + "/32", "dev", routeDevice}, nil)
}

// restoreIPSet fills one set with a single child that reads all entries from its stdin.
//
//go:noinline
func (p *proxy) restoreIPSet(set string, t *tally) {
	var lines strings.Builder
	for _, s := range p.services {
		fmt.Fprintf(&lines, "add %s %s\n", set, s.entry(set))
	}
	_ = t.runCommand("ipset restore", []string{p.tools.ipset, "restore", "-exist"}, strings.NewReader(lines.String()))
}

// forEachService calls work for every service until the context ends: in turn on this goroutine with one
// worker (so that the stack of a spawn reaches down to main), else from that many goroutines.
func (p *proxy) forEachService(ctx context.Context, work func(service)) {
	if p.cfg.workers == 1 {
		for _, s := range p.services {
			if ctx.Err() != nil {
				return
			}
			p.computeService()
			work(s)
		}
		return
	}
	var next atomic.Int64
	var workers sync.WaitGroup
	for w := 0; w < p.cfg.workers; w++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(p.services) {
					return
				}
				p.computeService()
				work(p.services[i])
			}
		}()
	}
	workers.Wait()
}

// computeService stands for what a proxy computes itself for each service, on the CPU and between children.
//
//go:noinline
func (p *proxy) computeService() {
	for until := monotonicNs() + p.cfg.ownWork.Nanoseconds(); monotonicNs() < until; {
	}
}
