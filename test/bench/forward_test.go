package bench

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// forwarders are where distributions have systemd's forwarder.
var forwarders = []string{"/usr/lib/systemd/systemd-socket-proxyd", "/lib/systemd/systemd-socket-proxyd"}

// forwarded serves on a unix socket and on a port, and starts systemd-socket-proxyd in front of the
// socket as PID 1 does. It returns the two addresses and the forwarder's process.
func forwarded(b *testing.B, h http.Handler) (direct, through string, pid int) {
	b.Helper()
	i := slices.IndexFunc(forwarders, func(path string) bool { _, err := os.Stat(path); return err == nil })
	if i < 0 {
		b.Skip("this host has no systemd-socket-proxyd")
	}
	socket := filepath.Join(b.TempDir(), "engine.sock")
	unix, err := net.Listen("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	for _, l := range []net.Listener{unix, tcp} {
		go func() { _ = srv.Serve(l) }()
	}
	b.Cleanup(func() { srv.Close() })
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer front.Close()
	file, err := front.(*net.TCPListener).File()
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	// NoDelay= of the socket unit, which the connections inherit.
	if err := syscall.SetsockoptInt(int(file.Fd()), syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"`, forwarders[i],
		"--connections-max=8192", socket)
	cmd.ExtraFiles, cmd.Stderr = []*os.File{file}, os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return tcp.Addr().String(), front.Addr().String(), cmd.Process.Pid
}

// BenchmarkForward compares an engine that is reached through systemd's forwarder with one that is
// reached at its port: a request over a connection that is open, over a new one, a token of a
// stream, and bytes of a long answer. ratio is the time through the forwarder, divided by the time
// without; kB is the forwarder's private memory with 100 open connections.
func BenchmarkForward(b *testing.B) {
	long := strings.Repeat("x", 1<<20)
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"status":"ok"}`) })
	mux.HandleFunc("/long", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, long) })
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		// A token for each line of the request: the time of each is that of one way and back.
		c := http.NewResponseController(w)
		_ = c.EnableFullDuplex()
		_ = c.Flush()
		for lines := bufio.NewScanner(r.Body); lines.Scan(); {
			fmt.Fprint(w, "data: token\n\n")
			_ = c.Flush()
		}
	})
	direct, through, pid := forwarded(b, mux)
	get := func(client *http.Client, path string) func(string) error {
		return func(address string) error {
			resp, err := client.Get("http://" + address + path)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			_, err = io.Copy(io.Discard, resp.Body)
			return err
		}
	}
	kept := &http.Client{}
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, c := range []struct {
		name string
		do   func(address string) error
	}{{"request", get(kept, "/health")}, {"connection", get(fresh, "/health")}, {"megabyte", get(kept, "/long")}} {
		b.Run(c.name, func(b *testing.B) { compare(b, direct, through, c.do) })
	}
	b.Run("token", func(b *testing.B) {
		streams := map[string]*stream{direct: open(b, direct), through: open(b, through)}
		compare(b, direct, through, func(address string) error { return streams[address].token() })
	})
	b.Run("memory", func(b *testing.B) {
		for range 100 {
			conn, err := net.Dial("tcp", through)
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
		}
		for b.Loop() {
			time.Sleep(time.Millisecond)
		}
		b.ReportMetric(float64(private(b, pid)), "kB")
	})
}

// compare reports the ratio of the two medians. The two are measured in turn, so that both meet the
// same load of the host.
func compare(b *testing.B, direct, through string, do func(string) error) {
	var took [2][]time.Duration
	for b.Loop() {
		for i, address := range []string{direct, through} {
			began := time.Now()
			if err := do(address); err != nil {
				b.Fatal(err)
			}
			took[i] = append(took[i], time.Since(began))
		}
	}
	median := func(of []time.Duration) float64 {
		slices.Sort(of)
		return float64(of[len(of)/2].Nanoseconds()) / 1e3
	}
	b.ReportMetric(median(took[0]), "direct-µs")
	b.ReportMetric(median(took[1]), "through-µs")
	b.ReportMetric(median(took[1])/median(took[0]), "ratio")
}

// stream is a request whose body and answer are open.
type stream struct {
	ask  *io.PipeWriter
	body *bufio.Reader
}

func open(b *testing.B, address string) *stream {
	b.Helper()
	in, out := io.Pipe()
	b.Cleanup(func() { out.Close() })
	resp, err := http.Post("http://"+address+"/stream", "text/plain", in)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { resp.Body.Close() })
	return &stream{out, bufio.NewReader(resp.Body)}
}

// token asks for one, and reads it.
func (s *stream) token() error {
	if _, err := io.WriteString(s.ask, "next\n"); err != nil {
		return err
	}
	for {
		line, err := s.body.ReadString('\n')
		if err != nil || strings.HasPrefix(line, "data:") {
			return err
		}
	}
}

// private is the memory that a process shares with no other, in kB.
func private(b *testing.B, pid int) int {
	b.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		b.Skip(err)
	}
	sum := 0
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[0], "Private_") {
			n, _ := strconv.Atoi(f[1])
			sum += n
		}
	}
	return sum
}
