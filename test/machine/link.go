package machine

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// LinkName is the network interface of a machine that is linked to another one.
const LinkName = "wire"

// Link connects two containers by a pair of virtual Ethernet devices, and gives the end of each its
// addresses, such as 10.9.8.7/24. The link goes with the first of the two that ends, or with either
// interface.
func Link(ctx context.Context, a *Machine, ofA []string, b *Machine, ofB []string) error {
	var pids []string
	for _, m := range []*Machine{a, b} {
		c, is := m.backend.(*container)
		if !is {
			return errors.New("only containers can be linked: a virtual machine has no network card")
		}
		pid, err := c.leader()
		if err != nil {
			return err
		}
		pids = append(pids, strconv.Itoa(pid))
	}
	if err := needTools("ip"); err != nil {
		return err
	}
	pair := []string{"link", "add", "name", LinkName, "netns", pids[0], "type", "veth", "peer", "name", LinkName,
		"netns", pids[1]}
	if out, err := exec.CommandContext(ctx, "ip", pair...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(pair, " "), err, out)
	}
	return errors.Join(a.join(ctx, ofA), b.join(ctx, ofB))
}

// join gives this end its addresses.
func (m *Machine) join(ctx context.Context, addresses []string) error {
	for _, address := range addresses {
		if err := m.Run(ctx, "ip", "address", "add", address, "dev", LinkName).Check(); err != nil {
			return err
		}
	}
	return m.Run(ctx, "ip", "link", "set", LinkName, "up").Check()
}
