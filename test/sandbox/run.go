package sandbox

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/test/machine"
)

// Longest bounds one run of a program.
const Longest = 5 * time.Minute

// Run runs a program in the machine, in the sandbox of an engine with these relaxations.
func Run(ctx context.Context, m *machine.Machine, p Program, allow []string) (Outcome, error) {
	unit, err := File(p, allow)
	if err != nil {
		return Outcome{}, err
	}
	if err := m.WriteFile(ctx, "/etc/systemd/system/"+UnitName, []byte(unit), 0o644); err != nil {
		return Outcome{}, err
	}
	script := `systemctl daemon-reload
		status=0; timeout @longest systemctl start @unit 2>/dev/null || status=$?
		ended=$(systemctl show -P ExecMainCode @unit) by=$(systemctl show -P ExecMainStatus @unit)
		journalctl --sync
		journalctl -q -o cat --cursor-file=/root/cursor _SYSTEMD_UNIT=@unit
		systemctl stop @unit; systemctl reset-failed @unit 2>/dev/null || :
		if [ "$ended" = 2 ] || [ "$ended" = 3 ]; then printf '\n@signal SIG%s' "$(kill -l "$by")"; fi
		exit $status`
	names := strings.NewReplacer("@unit", UnitName, "@longest", fmt.Sprint(int(Longest.Seconds())))
	res := m.Shell(ctx, names.Replace(script))
	log, signal, _ := strings.Cut(res.Stdout, "\n@signal ")
	return Outcome{Log: log, Signal: signal, OK: res.ExitCode == 0}, res.Err
}
