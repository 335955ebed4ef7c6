package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// Where the machines have what is theirs alone.
const (
	wireInside = "/srv/wire"
	leaseTime  = 10 * time.Second // [etcd] ttl, as it is by default
)

// fleet is three machines that publish in one etcd.
type fleet struct {
	etcd  *etcdServer
	hosts []node
}

// node is one machine of the fleet.
type node struct {
	stage
	name string
	wire *wire
}

// showFleet is the story of several hosts.
func showFleet(ctx context.Context, exit bool) (err error) {
	began := time.Now()
	dir, err := os.MkdirTemp("", "pool-managerd-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	say("One etcd on this host, and three Debian machines with a real systemd. They have no network: a wire each,\n" +
		"which carries their connections to etcd and can be cut.")
	parts, err := host.Build(ctx, dir)
	if err != nil {
		return err
	}
	f := &fleet{}
	defer func() { err = errors.Join(err, f.close()) }()
	if f.etcd, err = startEtcd(ctx, filepath.Join(dir, "etcd")); err != nil {
		return err
	}
	for _, name := range []string{"gpu1", "gpu2", "gpu3"} {
		if err := f.boot(ctx, dir, name, parts); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := f.show(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, f.hosts[0].h.Story(context.WithoutCancel(ctx), time.Time{}))
	}
	say("The demo took %s.", time.Since(began).Round(time.Second))
	if exit {
		return nil
	}
	say("What etcd has, in another terminal; Ctrl-C ends all:")
	fmt.Printf("ETCDCTL_API=3 etcdctl --endpoints=%s get --prefix /pool-managerd/\n", f.etcd.endpoint)
	<-ctx.Done()
	fmt.Println()
	return nil
}

// close ends what runs, machines first.
func (f *fleet) close() error {
	var all []error
	for _, n := range f.hosts {
		all = append(all, n.h.M.Close())
		n.wire.close()
	}
	if f.etcd != nil {
		f.etcd.close()
	}
	return errors.Join(all...)
}

// boot boots one machine, with the package and a pool that is published.
func (f *fleet) boot(ctx context.Context, dir, name string, parts host.Parts) error {
	w, err := newWire(filepath.Join(dir, name), f.etcd.address)
	if err != nil {
		return err
	}
	number := name[len(name)-1:]
	m, err := machine.Boot(ctx, machine.Config{
		Release: machine.Forky,
		Files: append(parts.Files(), machine.File{Guest: packageInside, Host: parts.Deb},
			machine.File{Guest: "/etc/hostname", Data: []byte(name + "\n")},
			machine.File{Guest: "/etc/machine-id", Data: []byte(strings.Repeat(number, 32) + "\n")}),
		Binds: []machine.Bind{{Guest: wireInside, Host: w.dir}},
		Log:   func(line string) { fmt.Println("  " + line) },
	})
	if err != nil {
		w.close()
		return err
	}
	n := node{stage: stage{h: host.New(m), prompt: name}, name: name, wire: w}
	f.hosts = append(f.hosts, n)
	_, err = n.h.Shell(ctx, "systemd-run --quiet --unit=wire --socket-property=ListenStream=127.0.0.1:2379 "+
		"/usr/lib/systemd/systemd-socket-proxyd "+wireInside+"/"+wireSocket)
	if err != nil {
		return err
	}
	run := func(script string) func() error { return func() error { return n.run(ctx, script) } }
	config := configFile + fmt.Sprintf("advertise_url = \"https://%s.example.org:9200\"\n\n[etcd]\n"+
		"endpoints = [\"http://127.0.0.1:2379\"]\n", name)
	return steps(
		run("dpkg --install "+packageInside),
		func() error { return n.h.Answering(ctx) },
		func() error { return n.write(ctx, host.ConfigFile, config) },
		func() error { return n.write(ctx, host.PoolFile("tiny"), poolFile) },
		run("systemctl reload pool-managerd"),
		func() error { _, err := n.ready(ctx, 0); return err },
		func() error { return n.published(ctx) },
	)
}

// published waits until pool-fleet reports that etcd has this host.
func (n node) published(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return host.Eventually(ctx, func(ctx context.Context) error {
		line, err := n.h.Shell(ctx, "systemctl show -P StatusText pool-fleet")
		if err == nil && !strings.Contains(line, "1 pools published") {
			err = fmt.Errorf("pool-fleet reports %q", line)
		}
		return err
	})
}

// show is what follows when all are published.
func (f *fleet) show(ctx context.Context) error {
	first, second, third := f.hosts[0], f.hosts[1], f.hosts[2]
	on := func(n node, script string) func() error { return func() error { return n.run(ctx, script) } }
	explain := func(format string, args ...any) func() error {
		return func() error { say(format, args...); return nil }
	}
	return steps(
		explain("Any of them shows all."),
		func() error { _, err := f.until(ctx, "gpu1/tiny", "gpu2/tiny", "gpu3/tiny"); return err },
		on(first, "poolctl fleet status"),
		on(second, "poolctl fleet list"),
		explain("gpu3 loses its power: it cannot take its keys back. They go with its lease, after %s.", leaseTime),
		func() error { return third.h.M.Close() },
		func() error { return f.within(ctx, "gpu1/tiny", "gpu2/tiny") },
		on(first, "poolctl fleet list"),
		explain("The wire of gpu2 is cut. It vanishes for the others, too, and serves on."),
		func() error { second.wire.cut(true); return nil },
		func() error { return f.within(ctx, "gpu1/tiny") },
		on(first, "poolctl fleet list"),
		on(second, "poolctl list"),
		explain("The wire is whole again."),
		func() error { second.wire.cut(false); return nil },
		func() error { return f.within(ctx, "gpu1/tiny", "gpu2/tiny") },
		on(first, "poolctl fleet list"),
		explain("etcd itself is killed for five seconds, and has forgotten nothing: the leases go on."),
		func() error { return f.etcd.restart(ctx, 5*time.Second) },
		func() error { return f.within(ctx, "gpu1/tiny", "gpu2/tiny") },
		on(first, "poolctl fleet list"),
	)
}

// within waits until the first host shows these pools, and fails where that takes longer than the
// documented time.
func (f *fleet) within(ctx context.Context, want ...string) error {
	took, err := f.until(ctx, want...)
	if err != nil {
		return err
	}
	say("The view of gpu1 is right after %s.", took.Round(100*time.Millisecond))
	if most := leaseTime + 2*time.Second; took > most {
		return fmt.Errorf("it took %s, which is more than %s: is this machine busy?", took, most)
	}
	return nil
}

// until waits until the first host shows these pools, and returns how long that took.
func (f *fleet) until(ctx context.Context, want ...string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := time.Now()
	err := host.Eventually(ctx, func(ctx context.Context) error {
		names, err := f.hosts[0].h.Shell(ctx, "poolctl fleet list -o name")
		if got := strings.Fields(names); err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("it shows %q", got)
		}
		return err
	})
	return time.Since(began), err
}
