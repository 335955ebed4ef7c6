package api

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// withCaller makes a request one of root over the unix socket.
func withCaller(ctx context.Context) context.Context {
	return context.WithValue(ctx, connectionKey{}, &connection{local: true})
}

func timedOut(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 1)
	t.Cleanup(cancel)
	return ctx
}

// TestWhoMayCall is the table of the contract, each row asked with a made-up request.
func TestWhoMayCall(t *testing.T) {
	token := tokenFile(t, secret+"\n")
	from := func(r *http.Request, c *connection) *http.Request {
		return r.WithContext(context.WithValue(r.Context(), connectionKey{}, c))
	}
	remote := func(addr string, header ...string) *http.Request {
		r := from(httptest.NewRequest("GET", "http://localhost:9200/v1/pools", nil),
			&connection{tcp: tcpPeer{known: true}})
		r.RemoteAddr = addr
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
			if header[i] == "Host" {
				r.Host = header[i+1]
			}
		}
		return r
	}
	local := func(p peer) *http.Request {
		return from(httptest.NewRequest("GET", "/v1/pools", nil), &connection{local: true, peer: p})
	}
	const here, there = "127.0.0.1:40000", "192.0.2.7:40000"
	group, journal := groupLookup{gid: 990, found: true}, groupLookup{gid: 4, found: true}
	cases := []struct {
		name     string
		settings Settings
		r        *http.Request
		identity string
		may      access
		code     string // of the refusal of a write, empty where there is none
	}{
		{"socket/root", Settings{}, local(peer{}), "uid:0", accessWrite, ""},
		{"socket/primary_group", Settings{}, local(peer{uid: 1000, gid: 990}), "uid:1000", accessWrite, ""},
		{"socket/member", Settings{}, local(peer{uid: 1000, gid: 1000, groups: []uint32{27, 990}}), "uid:1000", accessWrite, ""},
		{"socket/reads_the_journal", Settings{}, local(peer{uid: 1000, gid: 1000, groups: []uint32{4}}), "uid:1000", accessDetails, "FORBIDDEN"},
		{"socket/anybody_reads", Settings{}, local(peer{uid: 1000, gid: 1000, groups: []uint32{27}}), "uid:1000", accessRead, "FORBIDDEN"},
		{"socket/the_kernel_does_not_tell", Settings{}, local(peer{err: errors.New("x")}), "uid:unknown", accessNone, "FORBIDDEN"},
		{"socket/a_token_changes_nothing", Settings{TokenFile: token}, func() *http.Request {
			r := local(peer{uid: 1000})
			r.Header.Set("Authorization", "Bearer wrong")
			return r
		}(), "uid:1000", accessRead, "FORBIDDEN"},

		{"tcp/right_token", Settings{TokenFile: token}, remote(here, "Authorization", "Bearer "+secret), "token:3eb1bd", accessWrite, ""},
		{"tcp/right_token_from_afar", Settings{TokenFile: token}, remote(there, "Authorization", "bearer  "+secret), "token:3eb1bd", accessWrite, ""},
		{"tcp/wrong_token", Settings{TokenFile: token}, remote(here, "Authorization", "Bearer nope"), "token:ca3704", accessNone, "BAD_TOKEN"},
		{"tcp/a_prefix_is_wrong", Settings{TokenFile: token}, remote(here, "Authorization", "Bearer "+secret[:31]), "token:8cdbda", accessNone, "BAD_TOKEN"},
		{"tcp/no_token", Settings{TokenFile: token}, remote(here), "anonymous", accessNone, "MISSING_TOKEN"},
		{"tcp/another_scheme", Settings{TokenFile: token}, remote(here, "Authorization", "Basic "+secret), "anonymous", accessNone, "MISSING_TOKEN"},
		{"tcp/no_token_configured", Settings{}, remote(here, "Authorization", "Bearer "+secret), "token:3eb1bd", accessNone, "BAD_TOKEN"},

		{"optional/loopback", Settings{AuthOptional: true}, remote(here), "localhost", accessWrite, ""},
		{"optional/loopback_v6", Settings{AuthOptional: true}, remote("[::1]:40000", "Host", "[::1]:9200"), "localhost", accessWrite, ""},
		{"optional/loopback_v4_in_v6", Settings{AuthOptional: true}, remote("[::ffff:127.0.0.1]:40000"), "localhost", accessWrite, ""},
		{"optional/not_from_afar", Settings{TokenFile: token, AuthOptional: true}, remote(there), "anonymous", accessNone, "MISSING_TOKEN"},
		{"optional/a_wrong_token_is_still_wrong", Settings{TokenFile: token, AuthOptional: true}, remote(here, "Authorization", "Bearer nope"), "token:ca3704", accessNone, "BAD_TOKEN"},
		{"optional/not_through_a_proxy", Settings{AuthOptional: true}, remote(here, "X-Forwarded-For", "192.0.2.7"), "anonymous", accessNone, "MISSING_TOKEN"},
		{"optional/not_through_a_proxy_rfc7239", Settings{AuthOptional: true}, remote(here, "Forwarded", "for=192.0.2.7"), "anonymous", accessNone, "MISSING_TOKEN"},
		{"optional/through_a_trusted_proxy", Settings{AuthOptional: true, TrustProxyAuth: true, HostNames: []string{"pools.example"}}, remote(here, "X-Forwarded-For", "192.0.2.7", "Host", "Pools.Example:9200"), "localhost", accessWrite, ""},
		{"optional/through_a_trusted_proxy_that_names_an_address", Settings{AuthOptional: true, TrustProxyAuth: true}, remote(here, "X-Forwarded-For", "192.0.2.7", "Host", "127.0.0.1:9200"), "localhost", accessWrite, ""},
		{"optional/a_page_that_claims_to_be_a_proxy", Settings{AuthOptional: true, TrustProxyAuth: true}, remote(here, "X-Forwarded-For", "192.0.2.7", "Host", "evil.example"), "anonymous", accessNone, "MISSING_TOKEN"},
		{"optional/by_a_configured_name", Settings{AuthOptional: true, HostNames: []string{"pools.example"}}, remote(here, "Host", "pools.example"), "localhost", accessWrite, ""},
		{"optional/trust_gives_nothing_by_itself", Settings{TrustProxyAuth: true}, remote(here, "X-Forwarded-For", "127.0.0.1"), "anonymous", accessNone, "MISSING_TOKEN"},
		{"optional/not_where_the_process_is_not_known", Settings{AuthOptional: true}, from(remote(here), &connection{}), "anonymous", accessNone, "MISSING_TOKEN"},
		{"engine/not_where_tokens_are_optional", Settings{AuthOptional: true}, from(remote(here), &connection{tcp: tcpPeer{known: true, engine: true}}), "engine", accessRefused, "FORBIDDEN"},
		{"engine/not_with_a_token", Settings{TokenFile: token}, from(remote(here, "Authorization", "Bearer "+secret), &connection{tcp: tcpPeer{known: true, engine: true}}), "engine", accessRefused, "FORBIDDEN"},
		{"optional/not_from_a_web_page", Settings{AuthOptional: true}, remote(here, "Host", "evil.example:9200"), "anonymous", accessNone, "MISSING_TOKEN"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := newServer(t, c.settings, units{})
			g := *h.server.auth.Load()
			g.group, g.readers = group, []groupLookup{{}, journal}
			got := g.identify(c.r, connectionOf(c.r))
			code := ""
			if got.may < accessWrite {
				code = got.denied(accessWrite).Body.Code
			}
			if got.identity() != c.identity || got.may != c.may || code != c.code {
				t.Errorf("%s may %d, denied %q; want %s may %d, denied %q", got.identity(), got.may, code, c.identity,
					c.may, c.code)
			}
		})
	}
}

func TestTokensOverTCP(t *testing.T) {
	h := serve(t, Settings{TokenFile: tokenFile(t, secret)}, units{})
	t.Run("health_needs_none", func(t *testing.T) {
		if r := h.getTCP("/health"); r.status != 200 || r.json["status"] != "ok" || r.json["version"] != "1.2.3" {
			t.Errorf("%d %s", r.status, r.body)
		}
	})
	t.Run("missing", func(t *testing.T) {
		r := h.getTCP("/v1/pools")
		r.wantError(t, 401, "MISSING_TOKEN")
		if n := r.json["details"].(map[string]any)["auth_code"]; n != 40101.0 ||
			r.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s, WWW-Authenticate %q", r.body, r.header.Get("WWW-Authenticate"))
		}
		h.logged(`"identity":"anonymous"`, `"level":"WARN"`)
	})
	t.Run("bad", func(t *testing.T) {
		r := h.getTCP("/v1/pools", "Authorization", "Bearer nope")
		r.wantError(t, 401, "BAD_TOKEN")
		if n := r.json["details"].(map[string]any)["auth_code"]; n != 40102.0 {
			t.Errorf("%s", r.body)
		}
	})
	t.Run("right", func(t *testing.T) {
		if r := h.getTCP("/v1/pools", "Authorization", "Bearer "+secret); r.status != 200 {
			t.Errorf("%d %s", r.status, r.body)
		}
		h.logged(`"identity":"token:3eb1bd"`)
	})
	t.Run("unknown_paths_look_the_same_without_one", func(t *testing.T) {
		h.getTCP("/nowhere").wantError(t, 401, "MISSING_TOKEN")
	})
	t.Run("the_description_needs_one", func(t *testing.T) {
		h.getTCP("/openapi.yaml").wantError(t, 401, "MISSING_TOKEN")
	})
	t.Run("metrics_need_one", func(t *testing.T) { h.getTCP("/metrics").wantError(t, 401, "MISSING_TOKEN") })
	if strings.Contains(h.log.String(), secret) || strings.Contains(h.log.String(), "nope") {
		t.Error("a token is in the log")
	}
}

func TestTheSocketIdentifiesCallers(t *testing.T) {
	h := serve(t, Settings{}, units{})
	if r := h.get("/v1/pools"); r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
	uid := os.Getuid()
	h.logged(`"identity":"uid:` + strconv.Itoa(uid) + `"`)
}

// TestPeerGroups asks the kernel about a connection of this process.
func TestPeerGroups(t *testing.T) {
	here, there := socketPair(t)
	p := peerOf(here)
	if p.err != nil || int(p.uid) != os.Getuid() || int(p.gid) != os.Getgid() {
		t.Fatalf("peer %+v", p)
	}
	want, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	if len(p.groups) != len(want) {
		t.Errorf("groups %v, want %v", p.groups, want)
	}
	for _, g := range want {
		if !p.in(groupLookup{uint32(g), true}) {
			t.Errorf("group %d is missing from %v", g, p.groups)
		}
	}
	if p.in(groupLookup{gid: p.gid}) {
		t.Error("member of a group that does not exist")
	}
	there.Close()
}

func socketPair(t *testing.T) (*net.UnixConn, *net.UnixConn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	there, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	here, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close(); there.Close() })
	return here.(*net.UnixConn), there.(*net.UnixConn)
}

func TestReload(t *testing.T) {
	file := tokenFile(t, secret)
	h := serve(t, Settings{TokenFile: file}, units{})
	if err := os.WriteFile(file, []byte("a-new-token\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := h.getTCP("/v1/pools", "Authorization", "Bearer "+secret); r.status != 200 {
		t.Errorf("before the reload: %d", r.status)
	}
	if err := h.server.Apply(Settings{TokenFile: file}); err != nil {
		t.Fatal(err)
	}
	h.getTCP("/v1/pools", "Authorization", "Bearer "+secret).wantError(t, 401, "BAD_TOKEN")
	if r := h.getTCP("/v1/pools", "Authorization", "Bearer a-new-token"); r.status != 200 {
		t.Errorf("after the reload: %d", r.status)
	}
	h.logged("readable by all users", file)
	if err := h.server.Apply(Settings{TokenFile: file + ".gone"}); err == nil {
		t.Error("a token file that is gone is no error")
	}
	if r := h.getTCP("/v1/pools", "Authorization", "Bearer a-new-token"); r.status != 200 {
		t.Errorf("after a reload that failed: %d", r.status)
	}
}

// TestBindNeedsAToken: 40301 at start, and a reload cannot take the token of an open listener away.
func TestBindNeedsAToken(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", "[::]:0"} {
		t.Run(addr[:3], func(t *testing.T) {
			l, err := net.Listen("tcp", addr)
			if err != nil {
				t.Skipf("this host has no such address: %v", err)
			}
			h := newServer(t, Settings{AuthOptional: true}, units{})
			var refused *BindError
			if err := h.server.Serve(t.Context(), l); !errors.As(err, &refused) ||
				!strings.Contains(err.Error(), "40301") || !strings.Contains(err.Error(), "auth_token_file") {
				t.Errorf("Serve = %v", err)
			}
			if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the refused listener is still open: %v", err)
			}
		})
	}
	t.Run("with_a_token_alone", func(t *testing.T) {
		l, err := net.Listen("tcp4", "0.0.0.0:0")
		if err != nil {
			t.Fatal(err)
		}
		h := newServer(t, Settings{TokenFile: tokenFile(t, secret)}, units{})
		var refused *BindError
		if err := h.server.Serve(t.Context(), l); !errors.As(err, &refused) ||
			!strings.Contains(err.Error(), "40301") ||
			!strings.Contains(err.Error(), "tls_cert_file") || !strings.Contains(err.Error(), "insecure_public") {
			t.Errorf("Serve = %v", err)
		}
	})
	t.Run("without_a_token_where_it_may_be_insecure", func(t *testing.T) {
		l, err := net.Listen("tcp4", "0.0.0.0:0")
		if err != nil {
			t.Fatal(err)
		}
		var refused *BindError
		if err := newServer(t, Settings{InsecurePublic: true, AuthOptional: true}, units{}).server.Serve(t.Context(),
			l); !errors.As(err, &refused) {
			t.Errorf("Serve = %v", err)
		}
	})
	t.Run("with_a_token_where_it_may_be_insecure", func(t *testing.T) {
		h := reachableHost(t, Settings{TokenFile: tokenFile(t, secret), InsecurePublic: true})
		h.getTCP("/v1/pools").wantError(t, 401, "MISSING_TOKEN")
		var refused *BindError
		if err := h.server.Apply(Settings{AuthOptional: true}); !errors.As(err, &refused) {
			t.Errorf("a reload without a token = %v", err)
		}
		if r := h.getTCP("/v1/pools", "Authorization", "Bearer "+secret); r.status != 200 {
			t.Errorf("after the refused reload: %d", r.status)
		}
	})
}

// dialAs connects as another user with the given supplementary groups. Credentials are per thread
// in Linux; the thread is not unlocked, so it ends with its goroutine and no other goroutine runs
// under them.
func dialAs(t *testing.T, socket string, uid, gid int, groups ...uint32) net.Conn {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	type dialled struct {
		c   net.Conn
		err error
	}
	done := make(chan dialled, 1)
	go func() {
		runtime.LockOSThread()
		for _, call := range [][4]uintptr{
			{unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups)))},
			{unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)},
			{unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)},
		} {
			if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
				done <- dialled{err: errno}
				return
			}
		}
		c, err := net.Dial("unix", socket)
		done <- dialled{c, err}
	}()
	d := <-done
	if d.err != nil {
		t.Fatal(d.err)
	}
	t.Cleanup(func() { d.c.Close() })
	return d.c
}

// TestThePeerIsWhoConnected asks the kernel, with real users.
func TestThePeerIsWhoConnected(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "pool-api") // t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "api.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	h := newServer(t, Settings{}, units{})
	h.run(l)
	many := make([]uint32, 200) // more than the first guess at the list's length
	for i := range many {
		many[i] = uint32(3000 + i)
	}
	c := dialAs(t, socket, 61234, 61235, many...)
	if resp := askRaw(t, c, bufio.NewReader(c), "/v1/pools"); resp.StatusCode != 200 {
		t.Errorf("status %d for another user's read", resp.StatusCode)
	}
	h.logged(`"identity":"uid:61234"`)

	back, err := net.Listen("unix", filepath.Join(dir, "2"))
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	if err := os.Chmod(filepath.Join(dir, "2"), 0o666); err != nil {
		t.Fatal(err)
	}
	dialAs(t, filepath.Join(dir, "2"), 61234, 61235, many...)
	here, err := back.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	p := peerOf(here.(*net.UnixConn))
	if p.err != nil || p.uid != 61234 || p.gid != 61235 || !slices.Equal(p.groups, many) {
		t.Errorf("peer %+v", p)
	}
	if !p.in(groupLookup{3199, true}) || !p.in(groupLookup{61235, true}) || p.in(groupLookup{3200, true}) {
		t.Error("the membership is not that of the kernel")
	}
}
