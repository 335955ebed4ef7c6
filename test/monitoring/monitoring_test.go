package monitoring

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// dir has what is tested.
var dir = filepath.Join("..", "..", "packaging", "monitoring")

func read(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// promtool runs Prometheus's own checker where it is installed.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed (apt-get install prometheus): the expressions are not parsed")
	}
	cmd := exec.CommandContext(t.Context(), tool, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// known are the names of the metrics, and of the series that a histogram has.
func known(t *testing.T) []string {
	t.Helper()
	names := []string{"up", "process_resident_memory_bytes"}
	page := read(t, "..", "..", "docs", "reference", "metrics.md")
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (\\w+) \\|").FindAllStringSubmatch(page, -1) {
		if names = append(names, m[1]); m[2] == "histogram" {
			names = append(names, m[1]+"_bucket", m[1]+"_sum", m[1]+"_count")
		}
	}
	records := regexp.MustCompile(`record: (\S+)`)
	for _, m := range records.FindAllStringSubmatch(read(t, dir, "recording.rules.yml"), -1) {
		names = append(names, m[1])
	}
	if len(names) < 50 {
		t.Fatalf("only %d names", len(names))
	}
	return names
}

// selected returns the metrics that an expression names.
func selected(expr string) []string {
	expr = regexp.MustCompile(`"[^"]*"`).ReplaceAllString(expr, `""`)
	expr = regexp.MustCompile(`\{[^}]*\}|\[[^\]]*\]`).ReplaceAllString(expr, " ")
	expr = regexp.MustCompile(`\b(by|on|without|ignoring)\s*\([^)]*\)`).ReplaceAllString(expr, " ")
	var names []string
	for _, at := range regexp.MustCompile(`\b[a-zA-Z_:][\w:]*`).FindAllStringIndex(expr, -1) {
		name := expr[at[0]:at[1]]
		call := strings.HasPrefix(strings.TrimLeft(expr[at[1]:], " "), "(")
		number := at[0] > 0 && strings.ContainsAny(expr[at[0]-1:at[0]], "0123456789.")
		words := []string{"sum", "count", "and", "or", "unless", "bool", "offset"}
		if !call && !number && !slices.Contains(words, name) {
			names = append(names, name)
		}
	}
	return names
}

func checkNames(t *testing.T, where, expr string, names []string) {
	t.Helper()
	found := selected(expr)
	if len(found) == 0 {
		t.Errorf("%s: no metric in %s", where, expr)
	}
	for _, n := range found {
		if !slices.Contains(names, n) {
			t.Errorf("%s: there is no metric %s", where, n)
		}
	}
}

func TestRulesNameMetricsThatExist(t *testing.T) {
	names := known(t)
	expr := regexp.MustCompile(`(?m)^ +expr: (?:>-\n((?: {10,}.*\n)+)|(.+)$)`)
	for _, file := range []string{"alerts.rules.yml", "recording.rules.yml"} {
		text := read(t, dir, file)
		found := expr.FindAllStringSubmatch(text, -1)
		if len(found) != strings.Count(text, " expr: ") {
			t.Errorf("%s: %d expressions were read of %d", file, len(found), strings.Count(text, " expr: "))
		}
		for _, m := range found {
			e, _, _ := strings.Cut(m[1]+m[2], " # ")
			checkNames(t, file, e, names)
		}
	}
}

// TestEveryAlertHasItsCases: one in which it fires, and one in which it does not.
func TestEveryAlertHasItsCases(t *testing.T) {
	rules, cases := read(t, dir, "alerts.rules.yml"), read(t, dir, "alerts.test.yml")
	alerts := regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(rules, -1)
	if len(alerts) < 10 {
		t.Fatalf("%d alerts", len(alerts))
	}
	for _, a := range alerts {
		if !regexp.MustCompile(`alertname: ` + a[1] + `\n +exp_alerts:\n`).MatchString(cases) {
			t.Errorf("no case in which %s fires", a[1])
		}
	}
	if n := strings.Count(rules, "\n          action: "); n != len(alerts) {
		t.Errorf("%d of %d alerts say what to do", n, len(alerts))
	}
}

func TestPrometheusTakesTheRules(t *testing.T) {
	promtool(t, "check", "rules", "alerts.rules.yml", "recording.rules.yml")
	promtool(t, "test", "rules", "alerts.test.yml")
}

// panel is as much of a panel of Grafana's as is checked.
type panel struct {
	ID      int
	Type    string
	Title   string
	GridPos struct{ X, Y, W, H int }
	Targets []struct {
		RefID      string
		Expr       string
		Datasource struct{ UID string }
	}
}

func dashboard(t *testing.T) (panels []panel, text string) {
	t.Helper()
	text = read(t, dir, "dashboard.json")
	var board struct {
		UID, Title string
		Panels     []panel
	}
	if err := json.Unmarshal([]byte(text), &board); err != nil {
		t.Fatal(err)
	}
	if board.UID == "" || board.Title == "" || len(board.Panels) < 10 {
		t.Fatalf("%q, %q, %d panels", board.UID, board.Title, len(board.Panels))
	}
	return board.Panels, text
}

func TestDashboard(t *testing.T) {
	names := known(t)
	panels, text := dashboard(t)
	ids, cells := make(map[int]bool), make(map[[2]int]string)
	for _, p := range panels {
		if ids[p.ID] || p.Title == "" {
			t.Errorf("panel %d %q: its id is not its own, or it has no title", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				cell := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other := cells[cell]; other != "" || cell[0] >= 24 {
					t.Fatalf("%q lies on %q, or outside", p.Title, other)
				}
				cells[cell] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if len(p.Targets) == 0 {
			t.Errorf("%q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			checkNames(t, p.Title, target.Expr, names)
			if target.Datasource.UID != "${datasource}" || target.RefID == "" {
				t.Errorf("%q: data source %q", p.Title, target.Datasource.UID)
			}
		}
	}
	for _, m := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(text, -1) {
		if v := m[1]; !strings.HasPrefix(v, "__") && !strings.Contains(text, `"name": "`+v+`"`) {
			t.Errorf("there is no variable $%s", v)
		}
	}
}

// TestPrometheusParsesTheDashboard writes each expression as a rule, since promtool has no other
// way to have one parsed without a server.
func TestPrometheusParsesTheDashboard(t *testing.T) {
	panels, _ := dashboard(t)
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	n := 0
	for _, p := range panels {
		for _, target := range p.Targets {
			expr := strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*", "$pool", ".*").Replace(target.Expr)
			fmt.Fprintf(&rules, "  - record: panel:expr%d\n    expr: %q\n", n, expr)
			n++
		}
	}
	file := filepath.Join(t.TempDir(), "dashboard.rules.yml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)
}
