package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// driverAnswers is a driver that gives one answer, and records what it was asked and when the
// connection ended.
func driverAnswers(t *testing.T, answer string) (socket string, asked <-chan string, ended <-chan error) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "take.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	lines, ends := make(chan string, 1), make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		r := bufio.NewReader(c)
		line, _ := r.ReadString('\n')
		lines <- line
		fmt.Fprintln(c, answer)
		_, err = r.ReadByte()
		ends <- err
	}()
	return socket, lines, ends
}

func TestTakeMemory(t *testing.T) {
	t.Run("of_each_device_of_the_mask_until_it_is_closed", func(t *testing.T) {
		socket, asked, ended := driverAnswers(t, "ok")
		held, err := takeMemory(options{VRAM: 5, Masked: "GPU-a,GPU-b", Driver: socket}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if got := <-asked; got != `{"GPU-a":5,"GPU-b":5}`+"\n" {
			t.Errorf("asked %s", got)
		}
		select {
		case err := <-ended:
			t.Fatalf("released at once: %v", err)
		default:
		}
		held.Close()
		if err := <-ended; !errors.Is(err, io.EOF) {
			t.Errorf("ended with %v", err)
		}
	})
	t.Run("too_little_is_said_as_llama_cpp_says_it", func(t *testing.T) {
		socket, _, ended := driverAnswers(t, "out of memory")
		var log strings.Builder
		if _, err := takeMemory(options{VRAM: 5, Masked: "GPU-a", Driver: socket}, &log); err == nil {
			t.Error("the engine goes on")
		}
		if !strings.Contains(log.String(), "cudaMalloc failed: out of memory") {
			t.Errorf("logged %q", log.String())
		}
		<-ended
	})
	t.Run("no_driver", func(t *testing.T) {
		_, err := takeMemory(options{VRAM: 5, Masked: "GPU-a", Driver: filepath.Join(t.TempDir(), "none")}, io.Discard)
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("error %v", err)
		}
	})
	for name, o := range map[string]options{"none_wanted": {Masked: "GPU-a"}, "no_device": {VRAM: 5}} {
		t.Run(name, func(t *testing.T) {
			o.Driver = filepath.Join(t.TempDir(), "none")
			held, err := takeMemory(o, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if err := held.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestParseGPUFlags(t *testing.T) {
	env := map[string]string{"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}
	o, err := parse(strings.Fields("--port 1 --vram 7 --fake-driver /tmp/s --say offloaded"), func(k string) string {
		return env[k]
	})
	if err != nil || o.VRAM != 7 || o.Driver != "/tmp/s" || o.Say != "offloaded" || o.Masked != "GPU-a,GPU-b" {
		t.Errorf("parse = %+v, %v", o, err)
	}
	if o, err := parse([]string{"--port", "1"}, noEnv); err != nil || o.Driver != fakeDriver || o.VRAM != 0 {
		t.Errorf("left out: %+v, %v", o, err)
	}
	if _, err := parse(strings.Fields("--port 1 --vram 8G"), noEnv); err == nil ||
		!strings.Contains(err.Error(), "--vram") {
		t.Errorf("bad bytes: %v", err)
	}
}

func TestOpenTellsTheErrno(t *testing.T) {
	h := newEngine(options{Slots: 1}).routes()
	for path, want := range map[string]string{os.DevNull: "opened",
		filepath.Join(t.TempDir(), "none"): "no such file or directory", t.TempDir(): "is a directory"} {
		if code, body := call(t, h, http.MethodPost, "/stub/open?path="+url.QueryEscape(path)); code != http.StatusOK ||
			!strings.Contains(body, want) {
			t.Errorf("%s: %d %q, want %q", path, code, body, want)
		}
	}
}
