// An OCI runtime for machines that do not have all capabilities.
//
// "docker run --privileged" asks for every capability that Docker knows of, and
// runc refuses all of it when the machine's own bounding set lacks one (virtual
// machines and containers of build services often lack CAP_SYS_RESOURCE). This
// program takes out of the request what the machine does not have, and becomes
// runc. Docker calls it in runc's place (--add-runtime).
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// By their number, from include/uapi/linux/capability.h.
var names = strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD
LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND
AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE`)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "runtime without missing capabilities:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if file, isSpec := requestOf(args); file != "" {
		if err := trim(file, isSpec); err != nil {
			return err
		}
	}
	runc, err := exec.LookPath("runc")
	if err != nil {
		return err
	}
	return syscall.Exec(runc, append([]string{"runc"}, args...), os.Environ())
}

// The file that holds the capabilities asked for: a bundle's specification
// (create, run), or the description of one more process (exec).
func requestOf(args []string) (file string, isSpec bool) {
	for _, command := range args {
		switch command {
		case "create", "run":
			folder := valueOf(args, "--bundle", "-b")
			return filepath.Join(folder, "config.json"), true
		case "exec":
			return valueOf(args, "--process", "-p"), false
		}
	}
	return "", false
}

func valueOf(args []string, flags ...string) string {
	for i, arg := range args {
		for _, flag := range flags {
			if arg == flag && i+1 < len(args) {
				return args[i+1]
			}
			if value, ok := strings.CutPrefix(arg, flag+"="); ok {
				return value
			}
		}
	}
	return ""
}

func trim(file string, isSpec bool) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	// Numbers stay as they are written: some are larger than a float64 holds.
	var document map[string]any
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.UseNumber()
	if err := decoder.Decode(&document); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	process := document
	if isSpec {
		process, _ = document["process"].(map[string]any)
	}
	sets, _ := process["capabilities"].(map[string]any)
	if len(sets) == 0 {
		return nil
	}
	available, err := boundingSet()
	if err != nil {
		return err
	}
	for set, wanted := range sets {
		list, _ := wanted.([]any)
		kept := []any{}
		for _, name := range list {
			if text, ok := name.(string); ok && available[text] {
				kept = append(kept, name)
			}
		}
		sets[set] = kept
	}
	trimmed, err := json.Marshal(document)
	if err != nil {
		return err
	}
	return os.WriteFile(file, trimmed, 0o600)
}

func boundingSet() (map[string]bool, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}
	for _, line := range strings.Split(string(status), "\n") {
		value, found := strings.CutPrefix(line, "CapBnd:")
		if !found {
			continue
		}
		bits, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil {
			return nil, err
		}
		available := map[string]bool{}
		for number, name := range names {
			available["CAP_"+name] = bits>>number&1 == 1
		}
		return available, nil
	}
	return nil, fmt.Errorf("/proc/self/status names no bounding set")
}
