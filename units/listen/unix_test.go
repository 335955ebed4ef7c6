package listen

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// message is one of the kernel's, with attributes given as kind and value.
func message(kind uint16, size int, attributes ...any) []byte {
	native := binary.NativeEndian
	body := make([]byte, size)
	for i := 0; i+1 < len(attributes); i += 2 {
		value := []byte(attributes[i+1].(string))
		head := native.AppendUint16(native.AppendUint16(nil, uint16(4+len(value))), uint16(attributes[i].(int)))
		body = append(append(body, head...), value...)
		body = append(body, make([]byte, (4-len(body)%4)%4)...)
	}
	b := make([]byte, headerSize)
	native.PutUint32(b, uint32(headerSize+len(body)))
	native.PutUint16(b[4:], kind)
	return append(b, body...)
}

// socketOf is the message about a socket.
func socketOf(uid uint32, name string) []byte {
	return message(sockDiagByFamily, messageSize, nameAttribute, name, uidAttribute,
		string(binary.NativeEndian.AppendUint32(nil, uid)))
}

func TestUnixNames(t *testing.T) {
	end := message(unix.NLMSG_DONE, 4)
	failed := make([]byte, 4)
	binary.NativeEndian.PutUint32(failed, ^uint32(unix.EPERM)+1)
	refused := append(message(unix.NLMSG_ERROR, 0), failed...)
	binary.NativeEndian.PutUint32(refused, uint32(len(refused)))
	for _, c := range []struct {
		name string
		in   []byte
		want string
	}{
		{"a_path", slices.Concat(socketOf(7, "/run/x.sock\x00"), end), "[/run/x.sock] true <nil>"},
		{"an_abstract_name", slices.Concat(socketOf(7, "\x00name"), end), "[@name] true <nil>"},
		{"of_another_user", slices.Concat(socketOf(8, "/run/x.sock"), end), "[] true <nil>"},
		{"without_a_name", slices.Concat(socketOf(7, ""), end), "[] true <nil>"},
		{"a_kernel_without_users", slices.Concat(message(sockDiagByFamily, messageSize, nameAttribute, "/x"), end), "[] true <nil>"},
		{"several_and_more_to_come", slices.Concat(socketOf(7, "/a"), socketOf(7, "/bcd")), "[/a /bcd] false <nil>"},
		{"refused", refused, "[] false list of unix sockets: operation not permitted"},
		{"cut", socketOf(7, "/run/x.sock")[:30], "[] false a message of 56 bytes in 30"},
	} {
		t.Run(c.name, func(t *testing.T) {
			names, done, err := unixNames(c.in, 7)
			if got := fmt.Sprint(names, done, err); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// TestUnixOf: sockets that this process listens on are found, and those to which it only connects,
// and another user's, are not.
func TestUnixOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.sock")
	abstract := fmt.Sprintf("@pool-listen-%d", os.Getpid())
	for _, name := range []string{path, abstract} {
		l, err := net.Listen("unix", name)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	got, err := UnixOf(os.Getuid())
	if err != nil {
		t.Skip("this kernel does not list unix sockets: ", err)
	}
	for _, name := range []string{path, abstract} {
		if !slices.Contains(got, name) {
			t.Errorf("%s is not among %q", name, got)
		}
	}
	if other, err := UnixOf(os.Getuid() + 1); err != nil || slices.Contains(other, path) {
		t.Errorf("another user listens on %q, %v", other, err)
	}
}

func FuzzUnixNames(f *testing.F) {
	f.Add(socketOf(7, "/run/x.sock\x00"))
	f.Add(slices.Concat(socketOf(7, "\x00name"), message(unix.NLMSG_DONE, 4)))
	f.Add([]byte{0, 0, 0, 0})
	f.Fuzz(mutate.Many(func(t *testing.T, b []byte) {
		names, _, _ := unixNames(b, 7)
		if len(names) > len(b)/messageSize || len(strings.Join(names, "")) > len(b)+len(names) {
			t.Errorf("%q of %d bytes", names, len(b))
		}
	}))
}
