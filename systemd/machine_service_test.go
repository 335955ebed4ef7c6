//go:build machine

package systemd

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestServiceChild is no test of its own: it is the service that the tests below run, a program
// that uses everything that PID 1 gives to a service.
func TestServiceChild(t *testing.T) {
	if os.Getenv("SERVICE_CHILD") == "" {
		t.Skip("only as a service of the tests in this file")
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	log := slog.New(NewLogHandler(LogOptions{Identifier: "pmd-test"})).With("pool_id", "llama3")
	notifier := NewNotifier()
	interval, err := WatchdogInterval()
	if err != nil {
		t.Fatal(err)
	}
	sockets := "none"
	if a, err := TakeActivation(); err == nil {
		defer a.Close()
		sockets = fmt.Sprintf("%d api, %d tcp, %d others", len(a.Listeners["api"]), len(a.Listeners["tcp"]),
			len(a.Others))
		for _, l := range a.Listeners["api"] {
			go answerOnce(l)
		}
	}
	log.Warn("the child is ready", "restart_count", 2, "long", strings.Repeat("x", 300_000))
	if err := notifier.Ready(fmt.Sprintf("sockets: %s; watchdog: %s", sockets, interval)); err != nil {
		t.Fatal(err)
	}
	feed := time.NewTicker(max(interval/4, 100*time.Millisecond))
	defer feed.Stop()
	for {
		select {
		case <-hangups:
			if err := notifier.Reloading(); err != nil {
				t.Fatal(err)
			}
			if err := notifier.Ready("reloaded"); err != nil {
				t.Fatal(err)
			}
		case <-feed.C:
			if err := notifier.Watchdog(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func answerOnce(l net.Listener) {
	if conn, err := l.Accept(); err == nil {
		_, _ = conn.Write([]byte("hello from the child"))
		conn.Close()
	}
}

// child are the properties of a service that runs TestServiceChild.
func child(more ...Property) []Property {
	return append([]Property{
		{"ExecStartEx", []ExecCommand{{Path: os.Args[0], Args: []string{os.Args[0], "-test.run=^TestServiceChild$"}}}},
		{"Environment", []string{"SERVICE_CHILD=1"}},
		{"WatchdogUSec", uint64(2_000_000)},
	}, more...)
}

func TestMachineNotifications(t *testing.T) {
	enter(t)
	f := follow(t, Options{Keep: []string{"StatusText"}})
	kind := "notify"
	reload := f.awaitSynced(1).Features.Has("RestartMode") // of 254; Type=notify-reload is of 253
	if reload {
		kind = "notify-reload"
	}
	const unit = "pmd-test@notify.service"
	f.start(unit, child(Property{"Type", kind}))
	f.awaitUnit(unit, "ready with its status", func(s Status) bool {
		return s.ActiveState == "active" && s.Properties["StatusText"] == "sockets: none; watchdog: 2s"
	})
	if reload {
		// PID 1 compares the time of Reloading with that of its signal: without it the reload would
		// time out.
		run(t, "systemctl", "reload", unit)
		f.awaitUnit(unit, "reloaded", func(s Status) bool {
			return s.ActiveState == "active" && s.Properties["StatusText"] == "reloaded"
		})
	}
	// The watchdog's time passes, and the service that feeds it lives.
	time.Sleep(3 * time.Second)
	if st, err := f.Unit(timeout(t), unit); err != nil || st.ActiveState != "active" {
		t.Errorf("after the watchdog's time: %s, %v", brief(st), err)
	}
}

func TestMachineJournal(t *testing.T) {
	enter(t)
	f := follow(t, Options{})
	const unit = "pmd-test@journal.service"
	f.start(unit, child(Property{"Type", "notify"}))
	st := f.awaitUnit(unit, "ready", func(s Status) bool { return s.ActiveState == "active" })
	var entry map[string]any
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		out := run(t, "journalctl", "--all", "-o", "json", "_PID="+strconv.Itoa(st.MainPID), "PRIORITY=4")
		if out != "" {
			if err := json.Unmarshal([]byte(out), &entry); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			break
		}
	}
	for name, want := range map[string]any{
		"MESSAGE": "the child is ready", "HUMAN": "the child is ready", "PRIORITY": "4", "SYSLOG_IDENTIFIER": "pmd-test",
		"POOL_ID": "llama3", "RESTART_COUNT": "2", "_SYSTEMD_UNIT": unit, "_TRANSPORT": "journal",
		"LONG": strings.Repeat("x", 300_000), // larger than a datagram
	} {
		if entry[name] != want {
			t.Errorf("%s = %.80v, want %.80v", name, entry[name], want)
		}
	}
}

func TestMachineSocketActivation(t *testing.T) {
	enter(t)
	f := follow(t, Options{Pattern: "pmd-activated*", Keep: []string{"StatusText"}})
	const name = "pmd-activated"
	files := map[string]string{
		name + ".socket":       "[Socket]\nFileDescriptorName=api\nListenStream=/run/pmd-a.sock\nListenStream=/run/pmd-b.sock\n",
		name + "-more.socket":  "[Socket]\nFileDescriptorName=tcp\nListenStream=127.0.0.1:9931\nService=" + name + ".service\n",
		name + "-queue.socket": "[Socket]\nFileDescriptorName=queue\nListenDatagram=/run/pmd-q.sock\nService=" + name + ".service\n",
		name + ".service": "[Service]\nType=notify\nEnvironment=SERVICE_CHILD=1\nExecStart=" + os.Args[0] + " -test.run=^TestServiceChild$\n" +
			"Sockets=" + name + ".socket " + name + "-more.socket " + name + "-queue.socket\n",
	}
	for file, text := range files {
		path := "/run/systemd/system/" + file
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(path) })
		f.cleanup(file)
	}
	run(t, "systemctl", "daemon-reload")
	run(t, "systemctl", "start", name+".socket", name+"-more.socket", name+"-queue.socket")

	conn, err := net.Dial("unix", "/run/pmd-b.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 100)
	n, err := conn.Read(text)
	if string(text[:n]) != "hello from the child" {
		t.Errorf("read %q, %v from the activated service", text[:n], err)
	}
	f.awaitUnit(name+".service", "the report of what it got", func(s Status) bool {
		return s.Properties["StatusText"] == "sockets: 2 api, 1 tcp, 1 others; watchdog: 0s"
	})
}
