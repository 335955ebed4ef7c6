package gate

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// serveUnix answers on a unix socket until the test ends.
func serveUnix(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "engine.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "ok")
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close() })
	return path
}

// TestUnixSocket: an engine without a network is asked at its socket, and one that another user
// serves proves nothing.
func TestUnixSocket(t *testing.T) {
	path := serveUnix(t)
	at, err := parseEndpoint("http://127.0.0.1:1/health", path, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := at.ask(os.Getuid(), 200); got.answer != Healthy {
		t.Errorf("answer %+v, want healthy", got)
	}
	if got := at.ask(os.Getuid(), 204); got.answer != Loading {
		t.Errorf("another status: answer %+v, want loading", got)
	}
	if conn, err := dialUnix(path, os.Getuid()+1); err == nil {
		conn.Close()
		t.Error("a socket of another user was taken for the engine's")
	}
	if at.strangers() {
		t.Error("strangers at a socket")
	}
	at.unix = path + ".none"
	if got := at.ask(os.Getuid(), 200); got.answer != Silent {
		t.Errorf("no socket: answer %+v, want silent", got)
	}
}

// unixVariable has the test binary be a gate that has given up its rights.
const unixVariable = "POOL_GATE_UNIX_TEST"

// TestUnixSocketOfAnotherUser: a gate that has given up root's rights still connects to the socket
// of the engine's user, in a directory that is shut for everyone else, and by no other way has that
// user's rights.
func TestUnixSocketOfAnotherUser(t *testing.T) {
	if path := os.Getenv(unixVariable); path != "" {
		droppedGate(path)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be another user")
	}
	const engine = 61200
	dir, err := os.MkdirTemp("/tmp", "gate-unix-") // t.TempDir is shut for other users
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "gate.test")
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.Chmod(dir, 0o755), os.Mkdir(dir+"/run", 0o700), os.WriteFile(binary, self, 0o755),
		os.WriteFile(dir+"/run/secret", []byte("x"), 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	path := dir + "/run/engine.sock"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	for _, name := range []string{"", "/engine.sock", "/secret"} {
		if err := os.Chown(dir+"/run"+name, engine, engine); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(binary, "-test.run=^TestUnixSocketOfAnotherUser$")
	cmd.Env = append(os.Environ(), unixVariable+"="+strconv.Itoa(engine)+" "+path)
	out, err := cmd.CombinedOutput()
	// The listener is root's, and the engine is not: the connection is made and refused as foreign.
	for _, want := range []string{"a process of user ID 0 listens", "secret: permission denied",
		"otherwise: connect: permission denied"} {
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%v: %s; want %q", err, out, want)
		}
	}
}

// droppedGate prints what a gate without rights may do.
func droppedGate(text string) {
	user, path, _ := strings.Cut(text, " ")
	engine, err := strconv.Atoi(user)
	if err == nil {
		err = dropPrivileges(engine)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if conn, err := dialUnix(path, engine); err == nil {
		conn.Close()
		fmt.Println("connected")
	} else {
		fmt.Println(err)
	}
	if _, err := os.ReadFile(filepath.Dir(path) + "/secret"); err != nil {
		fmt.Println("secret:", err.(*os.PathError).Err)
	}
	if _, err := net.Dial("unix", path); err != nil {
		fmt.Println("otherwise:", err.(*net.OpError).Err)
	}
	if syscall.Geteuid() != overflowID {
		os.Exit(1)
	}
	os.Exit(0)
}
