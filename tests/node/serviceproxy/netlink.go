package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
	"unsafe"
)

// nativeEndian is what netlink headers use; both architectures that slowpod runs on are little-endian.
var nativeEndian = binary.LittleEndian

// ackTimeout bounds the wait for the kernel's answer, which comes before the send returns.
const ackTimeout = 5 * time.Second

// replaceRoutesByNetlink makes every service's route with one RTM_NEWROUTE each, and reads each answer.
//
//go:noinline
func (p *proxy) replaceRoutesByNetlink(ctx context.Context, t *tally) {
	start := monotonicNs()
	defer func() { t.netlinkNs += monotonicNs() - start }()
	socket, err := openRouteSocket()
	if err != nil {
		t.netlinkErrors++
		t.noteFailure(err)
		return
	}
	defer syscall.Close(socket)
	for i, s := range p.services {
		if ctx.Err() != nil {
			return
		}
		t.netlinkMessages++
		if err := sendRouteReplace(socket, uint32(i+1), s.address, p.deviceIndex); err != nil {
			t.netlinkErrors++
			t.noteFailure(fmt.Errorf("RTM_NEWROUTE %s: %w", s.address, err))
		}
	}
}

func openRouteSocket() (int, error) {
	socket, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.NETLINK_ROUTE)
	if err != nil {
		return -1, os.NewSyscallError("socket(AF_NETLINK)", err)
	}
	timeout := syscall.NsecToTimeval(ackTimeout.Nanoseconds())
	if err := syscall.SetsockoptTimeval(socket, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &timeout); err != nil {
		syscall.Close(socket)
		return -1, os.NewSyscallError("SO_RCVTIMEO", err)
	}
	return socket, nil
}

// sendRouteReplace asks for one route and waits for the kernel's acknowledgement.
//
//go:noinline
func sendRouteReplace(socket int, sequence uint32, address net.IP, device int) error {
	request := routeReplaceMessage(sequence, address, device)
	kernel := &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}
	if err := syscall.Sendto(socket, request, 0, kernel); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	return readAck(socket, sequence)
}

// routeReplaceMessage is `ip route replace ADDRESS/32 dev DEVICE` as rtnetlink(7) has it.
func routeReplaceMessage(sequence uint32, address net.IP, device int) []byte {
	var body bytes.Buffer
	route := syscall.RtMsg{
		Family:   syscall.AF_INET,
		Dst_len:  32,
		Table:    syscall.RT_TABLE_MAIN,
		Protocol: syscall.RTPROT_BOOT,
		Scope:    syscall.RT_SCOPE_LINK,
		Type:     syscall.RTN_UNICAST,
	}
	var oif [4]byte
	nativeEndian.PutUint32(oif[:], uint32(device))
	// Writes to a Buffer of fixed-size values cannot fail.
	_ = binary.Write(&body, nativeEndian, route)
	putAttribute(&body, syscall.RTA_DST, address.To4())
	putAttribute(&body, syscall.RTA_OIF, oif[:])

	var message bytes.Buffer
	_ = binary.Write(&message, nativeEndian, syscall.NlMsghdr{
		Len:   uint32(syscall.NLMSG_HDRLEN + body.Len()),
		Type:  syscall.RTM_NEWROUTE,
		Flags: syscall.NLM_F_REQUEST | syscall.NLM_F_ACK | syscall.NLM_F_CREATE | syscall.NLM_F_REPLACE,
		Seq:   sequence,
	})
	message.Write(body.Bytes())
	return message.Bytes()
}

// putAttribute writes one attribute of four bytes, which needs no padding.
func putAttribute(body *bytes.Buffer, kind uint16, value []byte) {
	_ = binary.Write(body, nativeEndian, syscall.RtAttr{Len: uint16(syscall.SizeofRtAttr + len(value)), Type: kind})
	body.Write(value)
}

// readAck reads the NLMSG_ERROR that answers the request: error 0 is the acknowledgement.
func readAck(socket int, sequence uint32) error {
	buffer := make([]byte, 4096)
	n, _, err := syscall.Recvfrom(socket, buffer, 0)
	if err != nil {
		return os.NewSyscallError("recvfrom", err)
	}
	messages, err := syscall.ParseNetlinkMessage(buffer[:n])
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	for _, message := range messages {
		if message.Header.Seq != sequence || message.Header.Type != syscall.NLMSG_ERROR || len(message.Data) < 4 {
			continue
		}
		if code := int32(nativeEndian.Uint32(message.Data)); code != 0 {
			return syscall.Errno(-code)
		}
		return nil
	}
	return fmt.Errorf("no answer to request %d", sequence)
}

// monotonicNs is CLOCK_MONOTONIC, the clock of the kernel's own time stamps (bpf_ktime_get_ns). Go's time
// package keeps its monotonic reading to itself.
func monotonicNs() int64 {
	const clockMonotonic = 1
	var now syscall.Timespec
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&now)), 0)
	if errno != 0 {
		panic(errno) // CLOCK_MONOTONIC with a valid pointer cannot fail.
	}
	return now.Nano()
}
