//go:build machine

package e2e

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// gatherLlama puts the real llama-server, all of its libraries and the dynamic loader into one
// folder, so that it runs on other releases too.
const gatherLlama = `
	rm -rf /tmp/llama; mkdir /tmp/llama; cd /tmp/llama
	ldd /usr/bin/llama-server | awk '$2 == "=>" {print $3}' | xargs cp -Lt .
	cp -L /lib64/ld-linux-x86-64.so.2 ld.so
	cp /usr/bin/llama-server /usr/lib/*/ggml/backends*/libggml-cpu-x64.so .`

// layOut puts the parts where people have them: case 4 of the cases from the field is the first,
// case 15 the second.
const layOut = `
	mkdir -p /opt/llama.cpp/build/bin /opt/llama.cpp/models
	cp /tmp/opt/* /opt/llama.cpp/build/bin; ln -s build/bin/ld.so /opt/llama.cpp/ld.so
	cp /srv/models/tiny.gguf /opt/llama.cpp/models/x.gguf
	ln -s /opt/llama.cpp/build/bin/llama-server /usr/local/bin/llama-server

	brew=/home/linuxbrew/.linuxbrew; mkdir -p $brew/bin $brew/lib
	for f in /tmp/brew/*; do
		case ${f##*/} in
		llama-server|libggml-cpu*) d=llama.cpp/1/bin;;
		libllama*|libmtmd*) d=llama.cpp/1/lib;;
		libggml*) d=ggml/2/lib;;
		*) d=glibc/3/lib;;
		esac
		mkdir -p $brew/Cellar/$d; cp $f $brew/Cellar/$d
	done
	for f in $brew/Cellar/*/*/lib/*; do ln -s ../${f#$brew/} $brew/lib/; done
	ln -s ../Cellar/llama.cpp/1/bin/llama-server $brew/bin/
	mkdir /home/linuxbrew/ld; ln -s $brew/lib/ld.so /home/linuxbrew/ld/

	llama=/srv/engines/llama; mkdir -p $llama/bin $llama/lib
	for f in /tmp/srv/*; do
		case ${f##*/} in
		llama-server|libggml-cpu*) cp $f $llama/bin;;
		ld.so) cp $f $llama;;
		*) cp $f $llama/lib;;
		esac
	done
	printf '%s\n' '#!/bin/sh' "root=$llama" 'export LD_LIBRARY_PATH=$root/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}' \
		'exec "$root/bin/llama-server" "$@"' >/usr/local/bin/run-llama; chmod 755 /usr/local/bin/run-llama
	rm -rf /tmp/opt /tmp/brew /tmp/srv

	mkdir -p /mnt/usb; mount -t tmpfs -o noexec,mode=755 tmpfs /mnt/usb; cp ` + host.StubEngine + ` /mnt/usb/engine
	printf '\177ELF\002\001\001\000AI\002\000' >/opt/llama.AppImage; chmod 755 /opt/llama.AppImage
	printf '%s\n' '#!/bin/sh' 'exec /opt/llama.AppImage "$@"' >/usr/local/bin/mounts-llama; chmod 755 /usr/local/bin/mounts-llama
	for d in /home/ann /home/linuxbrew /srv/other; do mkdir -p $d; echo secret >$d/secret; done`

// layPython makes an environment, at $venv, of a Python that is itself a copy in a home, with a
// server behind a launcher, as pip and uv write it where the path of the interpreter is too long
// for a "#!" line.
const layPython = `
	python=/home/ann/python; mkdir -p $python/bin $python/lib; chmod 711 /home/ann
	cp -L /usr/bin/python3 $python/bin/python3; cp -r /usr/lib/python3.* $python/lib/
	$python/bin/python3 -m venv --without-pip $venv
	cat >$(echo $venv/lib/python3.*/site-packages)/standin.py <<-'END'
		import sys
		from http.server import BaseHTTPRequestHandler, HTTPServer
		class Handler(BaseHTTPRequestHandler):
		    def do_GET(self):
		        self.send_response(200)
		        self.end_headers()
		        self.wfile.write(sys.base_prefix.encode())
		    def log_message(self, *args):
		        pass
		def main():
		    HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
	END
	printf '%s\n' '#!/bin/sh' "'''exec' \"$venv/bin/python3\" \"\$0\" \"\$@\"" "' '''" 'from standin import main' 'main()' >$venv/bin/standin; chmod 755 $venv/bin/standin`

// layUser installs the same server as pip --user does: its script names the Python of the system,
// and its modules are in the user's home.
const layUser = `
	user=/home/ann/.local; version=$(basename "$(realpath /usr/bin/python3)"); mkdir -p $user/bin $user/lib/$version/site-packages
	cp $(echo $venv/lib/python3.*/site-packages)/standin.py $user/lib/$version/site-packages/
	printf '%s\n' '#!/usr/bin/python3' 'from standin import main' 'main()' >$user/bin/standin; chmod 755 $user/bin/standin`

// longName makes a path longer than the 256 bytes that Linux reads of a "#!" line.
const (
	longPart = "a-folder-with-a-long-name-that-people-have-"
	longName = longPart + longPart + longPart + longPart + longPart
)

// TestEngineLayouts: the real llama-server, moved into the layouts that people install engines in,
// and a server in a Python environment serve, on each systemd.
func TestEngineLayouts(t *testing.T) {
	t.Parallel()
	parts := filepath.Join(t.TempDir(), "llama")
	// In a test of its own, which returns the machine at its end: see lend.
	gathered := t.Run("parts", func(t *testing.T) {
		h := installed(t, machine.Forky)
		h.shell(gatherLlama)
		if err := h.M.CopyOut(t.Context(), "/tmp/llama", parts); err != nil {
			t.Fatal(err)
		}
		h.shell("rm -rf /tmp/llama")
	})
	if !gathered {
		t.FailNow()
	}
	moved := map[string]string{
		"/tmp/opt":  move(t, parts, "/opt/llama.cpp/build/bin", "/opt/llama.cpp/ld.so"),
		"/tmp/brew": move(t, parts, "/home/linuxbrew/.linuxbrew/lib", "/home/linuxbrew/ld/ld.so"),
		"/tmp/srv":  move(t, parts, "/no/such/folder", "/srv/engines/llama/ld.so"),
	}
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) { layouts(t, release, moved) })
	}
}

func layouts(t *testing.T, release machine.Release, moved map[string]string) {
	t.Parallel()
	h := lend(t, kind{release: release, backend: machine.Container, extra: "python3"})
	for guest, dir := range moved {
		if err := h.M.CopyIn(t.Context(), dir, guest); err != nil {
			t.Fatal(err)
		}
	}
	h.shell(layOut)
	venv := "/home/ann/" + longName + "/venv"
	h.shell("venv=" + venv + layPython + layUser)
	defer h.shell("umount /mnt/usb; rm -rf /opt/llama.cpp /opt/llama.AppImage /home/* " +
		" /srv/engines /srv/other /usr/local/bin/*llama*")
	binary := func(path string) string { return `binary = "` + path + `"` }
	h.pool("case4", text(strings.ReplaceAll(llama().quick().String(), host.TinyModel, "/opt/llama.cpp/models/x.gguf")))
	h.pool("case15", llama().quick().table("provisioning", binary("/home/linuxbrew/.linuxbrew/bin/llama-server")))
	h.pool("wrapper", llama().quick().table("provisioning", binary("/usr/local/bin/run-llama")))
	python := poolFile{keys: []string{`engine = "command"`, `devices = []`, `args = ["{port}"]`}}
	h.pool("python", python.quick().table("provisioning", binary(venv+"/bin/standin")))
	h.pool("user", python.quick().table("provisioning", binary("/home/ann/.local/bin/standin")))
	noexec := stub().quick()
	noexec.tables[0] = "[provisioning]\n" + binary("/mnt/usb/engine")
	h.pool("case24", noexec)
	capable := stub().quick()
	h.shell("cp " + host.StubEngine + ` /usr/local/bin/llama-capable
		python3 -c 'import os; os.setxattr("/usr/local/bin/llama-capable", "security.capability",
		bytes([1, 0, 0, 2, 0, 0, 0x80, 0] + [0] * 12))'`)
	capable.tables[0] = "[provisioning]\n" + binary("/usr/local/bin/llama-capable")
	h.pool("capable", capable)
	mounts := llama().quick().table("provisioning", binary("/usr/local/bin/mounts-llama"))
	h.pool("appimage", mounts)
	h.reload()
	for _, id := range []string{"case4", "case15", "wrapper", "python", "user", "capable"} {
		t.Run(id, func(t *testing.T) {
			h := h.in(t)
			h.wait(id, isReady, restarted(0))
			seen := h.shell(fmt.Sprintf("nsenter --target %d --mount find /home /srv -name secret", h.engine(id).PID))
			if seen != "" {
				t.Errorf("the engine sees %s", seen)
			}
		})
	}
	t.Run("case24", func(t *testing.T) {
		p := h.in(t).wait("case24", failsWith("PROVISION_FAILED"))
		if !strings.Contains(p.LastError, "mounted noexec") {
			t.Errorf("its error is %q", p.LastError)
		}
	})
	t.Run("appimage", func(t *testing.T) {
		p := h.in(t).wait("appimage", failsWith("PROVISION_FAILED"))
		if !strings.Contains(p.LastError, "which is an AppImage") || !strings.Contains(p.Hint, "--appimage-extract") {
			t.Errorf("its error is %q (%s)", p.LastError, p.Hint)
		}
	})
}

// move returns a copy of a folder of ELF files that search their libraries and their loader
// elsewhere. Both names are written over the former ones, and must be shorter.
func move(t *testing.T, dir, libraries, loader string) string {
	t.Helper()
	out := t.TempDir()
	const wasLibraries, wasLoader = "/usr/lib/x86_64-linux-gnu/llama", "/lib64/ld-linux-x86-64.so.2"
	if len(libraries) >= len(wasLibraries) || len(loader) > len(wasLoader) {
		t.Fatalf("%s or %s is too long", libraries, loader)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if f.Name() != "ld.so" {
			slashes := strings.Repeat("/", len(wasLibraries)-len(libraries))
			raw = bytes.ReplaceAll(raw, []byte(wasLibraries+"\x00"), []byte(libraries+slashes+"\x00"))
			zeros := strings.Repeat("\x00", len(wasLoader)-len(loader)+1)
			raw = bytes.ReplaceAll(raw, []byte(wasLoader+"\x00"), []byte(loader+zeros))
			inherit(t, raw)
		}
		if err := os.WriteFile(filepath.Join(out, f.Name()), raw, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// inherit makes a RUNPATH an RPATH, which holds for the libraries of libraries too.
func inherit(t *testing.T, raw []byte) {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_DYNAMIC {
			continue
		}
		for at := p.Off; at < p.Off+p.Filesz; at += 16 {
			if elf.DynTag(binary.LittleEndian.Uint64(raw[at:])) == elf.DT_RUNPATH {
				binary.LittleEndian.PutUint64(raw[at:], uint64(elf.DT_RPATH))
			}
		}
	}
}
