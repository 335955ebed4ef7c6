package systemd

import (
	"bufio"
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
)

// fakeBus speaks the protocol of the bus on a unix socket, for faults that a real bus does not show
// on request: hanging, dropping, forging, nonsense. What PID 1 does is tested on a real one only.
type fakeBus struct {
	t       *testing.T
	address string
	// serve handles each connection after authentication; it returns to drop it.
	serve func(p *peer)
	// deaf makes the bus accept connections and never say anything.
	deaf bool

	mu    sync.Mutex
	peers []net.Conn
}

// peer is one client of the fake bus.
type peer struct {
	conn   net.Conn
	serial uint32
	number int // connections are counted from 1
}

const fakeOwner = ":1.1" // PID 1's unique name on the fake bus

func startFakeBus(t *testing.T, b *fakeBus) *fakeBus {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bus")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	b.t, b.address = t, "unix:path="+path
	var serving sync.WaitGroup
	serving.Go(func() {
		for number := 1; ; number++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.peers = append(b.peers, conn)
			b.mu.Unlock()
			serving.Go(func() {
				defer conn.Close()
				if !b.deaf && authenticate(conn) {
					b.serve(&peer{conn: conn, number: number})
				}
				if b.deaf {
					_, _ = conn.Read(make([]byte, 1)) // the client's first byte
					_, _ = bufio.NewReader(conn).ReadString(0)
				}
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		b.mu.Lock()
		for _, c := range b.peers {
			c.Close()
		}
		b.mu.Unlock()
		serving.Wait()
	})
	return b
}

// authenticate plays the server's side of SASL (D-Bus Specification, "Authentication Protocol"),
// byte by byte, because what follows BEGIN belongs to the messages.
func authenticate(conn net.Conn) bool {
	var line []byte
	for {
		one := make([]byte, 1)
		if _, err := conn.Read(one); err != nil {
			return false
		}
		if one[0] != '\n' {
			line = append(line, one[0])
			continue
		}
		answer := ""
		switch text := strings.Trim(string(line), "\x00\r"); {
		case text == "AUTH":
			answer = "REJECTED EXTERNAL\r\n"
		case strings.HasPrefix(text, "AUTH EXTERNAL"):
			answer = "OK 0123456789abcdef0123456789abcdef\r\n"
		case text == "NEGOTIATE_UNIX_FD":
			answer = "AGREE_UNIX_FD\r\n"
		case text == "BEGIN":
			return true
		}
		line = nil
		if _, err := conn.Write([]byte(answer)); err != nil {
			return false
		}
	}
}

// next reads one call; nil when the client is gone.
func (p *peer) next() *dbus.Message {
	m, err := dbus.DecodeMessage(p.conn)
	if err != nil {
		return nil
	}
	return m
}

func member(m *dbus.Message) string {
	s, _ := m.Headers[dbus.FieldMember].Value().(string)
	return s
}

func (p *peer) reply(to *dbus.Message, sender string, body ...any) {
	p.send(dbus.TypeMethodReply, sender, body, map[dbus.HeaderField]any{dbus.FieldReplySerial: to.Serial()})
}

func (p *peer) fail(to *dbus.Message, name string) {
	p.send(dbus.TypeError, fakeOwner, []any{"refused"}, map[dbus.HeaderField]any{
		dbus.FieldReplySerial: to.Serial(), dbus.FieldErrorName: name})
}

func (p *peer) signal(sender string, path dbus.ObjectPath, iface, member string, body ...any) {
	p.send(dbus.TypeSignal, sender, body, map[dbus.HeaderField]any{
		dbus.FieldPath: path, dbus.FieldInterface: iface, dbus.FieldMember: member})
}

// send writes a message in the wire format (D-Bus Specification, "Message Format"): godbus does not
// let its caller choose a serial, and the bus does not need unique ones.
func (p *peer) send(kind dbus.Type, sender string, body []any, headers map[dbus.HeaderField]any) {
	p.serial++
	m := &dbus.Message{Type: kind, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldSender: dbus.MakeVariant(sender)}}
	for field, value := range headers {
		m.Headers[field] = dbus.MakeVariant(value)
	}
	if len(body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	var buf writeBuffer
	if err := m.EncodeTo(&buf, binary.LittleEndian); err != nil {
		panic(err) // a mistake in the test
	}
	binary.LittleEndian.PutUint32(buf[8:], p.serial) // the message's own serial, after four bytes and the body's length
	_, _ = p.conn.Write(buf)
}

type writeBuffer []byte

func (b *writeBuffer) Write(data []byte) (int, error) {
	*b = append(*b, data...)
	return len(data), nil
}

// listing is one row of ListUnitsByPatterns.
type listing struct {
	Name, Description, Load, Active, Sub, Following string
	Path                                            dbus.ObjectPath
	JobID                                           uint32
	JobType                                         string
	JobPath                                         dbus.ObjectPath
}

// answer answers a call as a bus and a PID 1 with one running unit, e@a, do.
func (p *peer) answer(t *testing.T, m *dbus.Message) {
	switch member(m) {
	case "Hello":
		p.reply(m, driverName, ":1.2")
	case "AddMatch":
		p.reply(m, driverName)
	case "GetNameOwner":
		p.reply(m, driverName, fakeOwner)
	case "Subscribe":
		p.reply(m, fakeOwner)
	case "Introspect":
		document, err := os.ReadFile("testdata/service-257.xml")
		if err != nil {
			t.Error(err)
		}
		p.reply(m, fakeOwner, string(document))
	case "ListUnitsByPatterns":
		p.reply(m, fakeOwner, []listing{{Name: "e@a", Load: "loaded", Active: "active", Sub: "running",
			Path: unitPath("e@a"), JobPath: "/"}})
	case "Get":
		values := map[any]any{"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "MainPID": uint32(7),
			"ControlGroup": "/e", "Version": "257"}
		if v, ok := values[m.Body[1]]; ok {
			p.reply(m, fakeOwner, dbus.MakeVariant(v))
		} else {
			p.fail(m, "org.freedesktop.DBus.Error.UnknownProperty")
		}
	default:
		p.fail(m, "org.freedesktop.DBus.Error.UnknownMethod")
	}
}
