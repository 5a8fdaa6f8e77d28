package main

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
)

// inNamespace marks, in the environment, a process that already made its namespace.
const inNamespace = "SERVICEPROXY_IN_NETNS"

// enterOwnNetworkNamespace gives the whole process a network namespace of its own. A namespace belongs to a
// thread, and Go has started several by now; but an exec keeps only the thread that calls it. So: unshare on
// this thread, then become this program again, same pid. The namespace goes when the process does.
func enterOwnNetworkNamespace() error {
	if os.Getenv(inNamespace) != "" {
		return os.Unsetenv(inNamespace)
	}
	// The path, not /proc/self/exe: comm is taken from its last part.
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("own path: %w", err)
	}
	runtime.LockOSThread()
	if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare(CLONE_NEWNET): %w (it needs CAP_SYS_ADMIN)", err)
	}
	err = syscall.Exec(self, os.Args, append(os.Environ(), inNamespace+"=1"))
	return fmt.Errorf("exec %s: %w", self, err)
}
