package chaos

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
)

// The directories that are small file systems of their own in the machine.
const (
	stateDir = "/var/lib/pool-managerd"
	runDir   = "/run/pool-managerd"
)

// shell is a fault by a script, which has the pools that it hits in $pools and a number in $dice.
func shell(script string) action {
	return func(ctx context.Context, s *site, step Step) error {
		pools := strings.Join(step.Pools, " ")
		_, err := s.Shell(ctx, fmt.Sprintf("pools=%q; dice=%d\n%s", pools, step.Dice%1000, script))
		return err
	}
}

// kill kills the main process of a unit. PID 1 may be executing itself again at the moment.
func kill(unit string) string {
	return "for i in 1 2 3 4 5; do systemctl kill --kill-whom=main --signal=KILL " + unit + " && break; sleep 0.3; done"
}

// pause stops the main processes of units, and keeps their numbers under a name: PID 1 may be
// unable to send the signal that ends it.
func pause(name, units string) string {
	return `systemctl show -p MainPID --value ` + units + ` | grep -v -x -e 0 -e "" >/run/chaos-` + name + ` || true
		[ ! -s /run/chaos-` + name + ` ] || kill -STOP $(cat /run/chaos-` + name + `)`
}

// resume ends a pause. A process may have been replaced meanwhile.
func resume(name string) string {
	return `for p in $(cat /run/chaos-` + name + `); do kill -CONT $p 2>/dev/null || true; done`
}

// engineUnits are the engines of the pools that a step hits, on either side of a reload.
const engineUnits = `$(printf 'pool-engine@%s.r0*.service ' $pools)`

// killEngines kills the engines of the pools that run.
const killEngines = `for u in ` + engineUnits + `; do
		systemctl kill --kill-whom=main --signal=KILL "$u" 2>/dev/null || true
	done`

// gate kills the engine, waits for the process that PID 1 runs beside the next one, the gate, and
// sends it the signal. Where there was none in time, the crash is all that happened.
func gate(signal string) string {
	return killEngines + `
	: >/run/chaos-gate
	for i in $(seq 60); do
		c=$(systemctl show -p ControlPID --value ` + engineUnits + ` | grep -v -x -e 0 -e "" | tail -n 1 || true)
		[ -z "$c" ] || { echo "$c" >/run/chaos-gate; kill -` + signal + ` "$c" 2>/dev/null || true; break; }
		sleep 0.05
	done`
}

// fill fills a small file system to the last byte.
func fill(dir string) string {
	return "{ head -c 64M /dev/zero >" + dir + "/.filler; } 2>/dev/null || true"
}

// slowDisk lets the manager write three times a second to the disk of its state: whatever is
// written down takes half a second or more. In a virtual machine that is a file system of its own.
const (
	stateDisk = `disk=$(findmnt -n -o SOURCE ` + stateDir + `)
	`
	slowDisk  = stateDisk + `systemctl set-property --runtime pool-managerd.service IOWriteIOPSMax="$disk 3"`
	quickDisk = stateDisk + `systemctl set-property --runtime pool-managerd.service IOWriteIOPSMax="$disk infinity"`
)

// readOnly makes a file system read-only, and leaves its mount read-write: a unit that starts now
// has a mount of its own, which the end of the fault does not reach. The mount(8) of systemd 252's
// release has no option for that, and takes two calls. The kernel refuses the first while a file is
// open for writing.
func readOnly(dir string) string {
	return "systemctl stop pool-managerd.service; mount -o remount,ro " + dir + "; mount -o remount,bind,rw " + dir +
		"; systemctl start pool-managerd.service"
}

// managerHang stops the manager until its watchdog has replaced it.
func managerHang(ctx context.Context, s *site, _ Step) error {
	former, err := s.Unit(ctx, host.ManagerUnit)
	if err != nil {
		return err
	}
	if _, err := s.Shell(ctx, pause("hang", host.ManagerUnit)); err != nil {
		return err
	}
	return host.Eventually(ctx, func(ctx context.Context) error {
		u, err := s.Unit(ctx, host.ManagerUnit)
		if err == nil && (u.MainPID == 0 || u.MainPID == former.MainPID) {
			err = fmt.Errorf("its watchdog has not replaced it: %+v", u)
		}
		return err
	})
}

// clockJump sets the clock two hours ahead or back, and back again.
func clockJump(ends bool) action {
	return func(ctx context.Context, s *site, step Step) error {
		by := 7200
		if (step.Dice%2 == 0) != ends {
			by = -by
		}
		_, err := s.Shell(ctx, fmt.Sprintf("date -s @$(($(date +%%s) + %d))", by))
		return err
	}
}

// gpu has the fake driver do something.
func gpu(command string) action {
	return func(ctx context.Context, s *site, _ Step) error {
		_, err := s.GPU(ctx, command)
		return err
	}
}

// exits has engines end with a status. One that does not answer at the moment stays as it is.
func exits(ctx context.Context, s *site, step Step) error {
	for _, p := range step.Pools {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		_, _ = s.Engine(ctx, p, http.MethodPost, "/stub/exit?code=3", nil) // it dies of it, and does not answer
		cancel()
	}
	return nil
}

// hostileClients has an unprivileged user misuse the API.
func hostileClients(way string) action {
	return func(ctx context.Context, s *site, _ Step) error {
		_, err := s.Run(ctx, "systemd-run", "--quiet", "--collect", "--unit=test-hostile", "--uid=65534",
			witnessProgram, "hostile", way, "5m")
		return err
	}
}

// Changes of the pools' files. Each keeps the former one beside it.
const (
	keepFiles = `cd /etc/pool-managerd/pools.d; for p in $pools; do cp "$p.toml" "/run/chaos-$p"; done; `

	configBad = keepFiles + `for p in $pools; do
		case $((dice % 3)) in
		0) echo 'engine = [' >"$p.toml" ;;
		1) sed -i 's/^slots = .*/slots = 99999999/' "$p.toml" ;;
		2) head -c 100 /dev/urandom >"$p.toml" ;;
		esac
	done
	! systemctl reload pool-managerd.service`

	configLimits = keepFiles + `for p in $pools; do printf '[limits]\ncpu_weight = %s\n' $((dice % 100 + 1)) >>"$p.toml"; done
	systemctl reload pool-managerd.service`

	configArgs = keepFiles + `for p in $pools; do sed -i "s/^args = \[/args = [\"--say\", \"hello $dice\", /" "$p.toml"; done
	systemctl reload pool-managerd.service`

	configBack = `for p in $pools; do cp "/run/chaos-$p" "/etc/pool-managerd/pools.d/$p.toml"; done
	systemctl reload pool-managerd.service`
)

// configAdd adds a pool.
func configAdd(ctx context.Context, s *site, step Step) error {
	if err := s.WritePool(ctx, step.Pools[0], poolFile(step.Pools[0], s.pace)); err != nil {
		return err
	}
	return s.Reload(ctx).Check()
}

// operate requests something of each pool. A manager that is down or busy is asked again.
func operate(what, body string) action {
	return func(ctx context.Context, s *site, step Step) error {
		for _, p := range step.Pools {
			err := host.Eventually(ctx, func(ctx context.Context) error {
				ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
				defer cancel()
				a, err := s.Send(ctx, http.MethodPost, "/v1/pools/"+p+"/"+what, body)
				if err == nil && a.Status != http.StatusAccepted {
					err = fmt.Errorf("%s of %s: %d %s", what, p, a.Status, a.Body)
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// install installs the newer package, or the tested one again over it.
func install(newer bool) action {
	return func(ctx context.Context, s *site, _ Step) error {
		if newer {
			return s.Upgrade(ctx, s.newer)
		}
		return s.Upgrade(ctx, s.parts.Deb)
	}
}
