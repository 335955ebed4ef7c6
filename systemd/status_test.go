package systemd

import (
	"math"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// serviceProperties are a failed unit's, in the types that godbus decodes.
func serviceProperties() properties {
	return properties{
		"LoadState": "loaded", "ActiveState": "failed", "SubState": "failed", "Result": "exit-code",
		"MainPID": uint32(41), "ExecMainCode": int32(1), "ExecMainStatus": int32(203), "NRestarts": uint32(3),
		"InvocationID": []byte{0xab, 0x01}, "ControlGroup": "/pool.slice/x",
		"Job":                  []any{uint32(7), dbus.ObjectPath("/job/7")},
		"ActiveEnterTimestamp": uint64(1_700_000_000_000_001), "InactiveEnterTimestamp": uint64(0),
		"StateChangeTimestamp":   uint64(math.MaxUint64),
		"ExecMainStartTimestamp": uint64(1_700_000_000_000_002), "ExecMainExitTimestamp": uint64(1_700_000_000_000_003),
		"RestartUSec": uint64(100_000), "RestartUSecNext": uint64(math.MaxUint64),
		"LogExtraFields": [][]byte{[]byte("POOL_ID=a"), []byte("ENDPOINT=http://h/?a=b"), []byte("broken")},
		"ExecStartPreEx": [][]any{
			{"/p", []string{}, []string{}, uint64(1), uint64(1), uint64(8), uint64(8), uint32(5), int32(1), int32(6)},
		},
		"ExecStartPostEx": [][]any{
			{"/a", []string{}, []string{}, uint64(1), uint64(1), uint64(9), uint64(9), uint32(5), int32(1), int32(0)},
			{"/b", []string{}, []string{}, uint64(1), uint64(1), uint64(10), uint64(10), uint32(5), int32(2), int32(15)},
			{"/c", []string{}, []string{}, uint64(0), uint64(0), uint64(0), uint64(0), uint32(0), int32(0), int32(0)},
		},
		"Description": "d",
	}
}

func TestStatus(t *testing.T) {
	want := Status{
		Name: "u", LoadState: "loaded", ActiveState: "failed", SubState: "failed", Result: "exit-code",
		MainPID: 41, ExecMainCode: 1, ExecMainStatus: 203, NRestarts: 3, InvocationID: "ab01",
		ControlGroup: "/pool.slice/x", ActiveEnter: time.UnixMicro(1_700_000_000_000_001),
		MainStarted: time.UnixMicro(1_700_000_000_000_002), MainExited: time.UnixMicro(1_700_000_000_000_003),
		PreCode: 1, PreStatus: 6, PostCode: 2, PostStatus: 15, RestartUSec: 100_000,
		LogFields: map[string]string{"POOL_ID": "a", "ENDPOINT": "http://h/?a=b"}, JobID: 7,
		Properties: map[string]any{"Description": "d"},
	}
	keep := []string{"Description", "Nothing"}
	if diff := cmp.Diff(want, serviceProperties().status("u", keep)); diff != "" {
		t.Error(diff)
	}
	// What a watcher keeps reads the same.
	kept := make(properties)
	for name, value := range serviceProperties() {
		kept[name] = compact(name, value)
	}
	if diff := cmp.Diff(want, kept.status("u", keep)); diff != "" {
		t.Error(diff)
	}
}

// TestCompact: what a watcher keeps refers to no byte of the message that it came in.
func TestCompact(t *testing.T) {
	message := []byte("POOL_ID=a")
	one := compact("InvocationID", message)
	list := compact("LogExtraFields", [][]byte{message})
	message[0] = 'X'
	if diff := cmp.Diff([]byte("POOL_ID=a"), one); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([][]byte{[]byte("POOL_ID=a")}, list); diff != "" {
		t.Error(diff)
	}
}

func TestStatusOfARun(t *testing.T) {
	const began, ended = uint64(5_000_000), uint64(8_500_000)
	run := func(start, exit, enter, leave uint64) Status {
		return properties{
			"ExecMainStartTimestampMonotonic": start, "ExecMainExitTimestampMonotonic": exit,
			"ActiveEnterTimestampMonotonic": enter, "ActiveExitTimestampMonotonic": leave,
		}.status("u", nil)
	}
	for name, c := range map[string]struct {
		st            Status
		ran           time.Duration
		active, first bool
	}{
		"never_ran":                          {run(0, 0, 0, 0), 0, false, false},
		"runs_since_its_unit_is_active":      {run(began, 0, began+1, 0), 0, true, false},
		"loads_in_a_unit_that_was_active":    {run(began, 0, began-2, began-1), 0, false, false},
		"ended_while_it_loaded":              {run(began, ended, began-2, began-1), 3500 * time.Millisecond, false, false},
		"ended_by_itself":                    {run(began, ended, began+1, ended+10), 3500 * time.Millisecond, true, true},
		"ended_by_itself_in_one_microsecond": {run(began, began, began, began), 0, true, true},
		"was_stopped":                        {run(began, ended, began+1, ended-10), 3500 * time.Millisecond, true, false},
		"nonsense":                           {run(began, math.MaxUint64-1, began+1, ended), 0, true, false},
	} {
		if c.st.MainRan != c.ran || c.st.WasActive != c.active || c.st.EndedFirst != c.first {
			t.Errorf("%s: ran %s, was active %t, ended first %t; want %s, %t, %t", name, c.st.MainRan, c.st.WasActive,
				c.st.EndedFirst, c.ran, c.active, c.first)
		}
	}
}

func TestStatusOfWrongTypes(t *testing.T) {
	p := properties{"MainPID": "x", "Job": "x", "InvocationID": 1, "LogExtraFields": 1, "ExecStartPostEx": [][]any{{1}},
		"ExecStartPreEx": "x", "ActiveState": 5}
	if diff := cmp.Diff(Status{Name: "u"}, p.status("u", []string{})); diff != "" {
		t.Error(diff)
	}
}

func TestStatusRunning(t *testing.T) {
	for name, c := range map[string]struct {
		st   Status
		want bool
	}{
		"active":              {Status{ActiveState: "active", MainPID: 5}, true},
		"gate_waits":          {Status{ActiveState: "activating", MainPID: 5}, true},
		"waits_for_a_restart": {Status{ActiveState: "activating", SubState: "auto-restart"}, false},
		"stopping":            {Status{ActiveState: "deactivating", MainPID: 5}, false},
	} {
		if got := c.st.Running(); got != c.want {
			t.Errorf("%s: Running = %v, want %v", name, got, c.want)
		}
	}
}

// TestFailedInAStop: a unit that failed was stopped where its process ran, was active, and did not
// end before PID 1 was asked to stop it.
func TestFailedInAStop(t *testing.T) {
	was := Status{ActiveState: "failed", Result: "timeout", WasActive: true, MainRan: time.Second}
	for _, c := range []struct {
		name   string
		change func(*Status)
		want   bool
	}{
		{"it_took_too_long", func(*Status) {}, true},
		{"it_ended_badly_of_it", func(st *Status) { st.Result = "core-dump" }, true},
		{"it_has_not_failed", func(st *Status) { st.ActiveState = "deactivating" }, false},
		{"it_never_was_active", func(st *Status) { st.WasActive = false }, false},
		{"no_process_ran", func(st *Status) { st.MainRan = 0 }, false},
		{"its_process_had_ended_before", func(st *Status) { st.EndedFirst = true }, false},
		{"the_kernel_ended_it", func(st *Status) { st.Result = "oom-kill" }, false},
		{"pid_1_gave_up", func(st *Status) { st.Result = startLimitHit }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := was
			c.change(&st)
			if got := st.FailedInStop(); got != c.want {
				t.Errorf("%t for %+v", got, st)
			}
		})
	}
}

func TestUnitPath(t *testing.T) {
	for name, want := range map[string]string{
		"dbus.service":                  "dbus_2eservice",
		`pool-engine@a\x2db.r0.service`: "pool_2dengine_40a_5cx2db_2er0_2eservice",
		"9lives.service":                "_39lives_2eservice",
		"a_b.service":                   "a_5fb_2eservice",
		"":                              "_",
		"é.service":                     "_c3_a9_2eservice",
	} {
		path := unitPath(name)
		if string(path) != unitPathPrefix+want {
			t.Errorf("unitPath(%q) = %s, want …%s", name, path, want)
		}
		if !path.IsValid() {
			t.Errorf("unitPath(%q) = %s is no object path", name, path)
		}
	}
}

func TestUnitNameOfOtherPaths(t *testing.T) {
	for _, path := range []dbus.ObjectPath{
		"/", "/org/freedesktop/systemd1", unitPathPrefix, unitPathPrefix + "a/b", unitPathPrefix + "a_2", unitPathPrefix + "a_2G",
		unitPathPrefix + "a_2E", // upper case: not as PID 1 writes it
		unitPathPrefix + "_61",  // an escape that was not needed
		unitPathPrefix + "9a",
	} {
		if name, ok := unitName(path); ok {
			t.Errorf("unitName(%s) = %q, want none", path, name)
		}
	}
}

func FuzzUnitPath(f *testing.F) {
	for _, s := range []string{"", "a.service", `pool-engine@a\x2db.r0.service`, "_", "0"} {
		f.Add(s)
	}
	f.Fuzz(mutate.Many(func(t *testing.T, name string) {
		path := unitPath(name)
		if back, ok := unitName(path); !ok || back != name {
			t.Errorf("unitName(unitPath(%q)) = %q, %v", name, back, ok)
		}
	}))
}
