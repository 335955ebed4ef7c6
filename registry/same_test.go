package registry

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestEveryFieldIsAChange holds sameButHeartbeat to the fields that there are: one that is
// forgotten would never be shown.
func TestEveryFieldIsAChange(t *testing.T) {
	base := func() *Pool {
		return &Pool{Devices: []PoolDevice{{Memory: &VRAM{}}}, LastError: &Failure{}, Drain: &Drain{},
			Override: &Override{},
			Reload:   &Reload{}, Replicas: []Replica{{LastError: &Failure{}, DeviceMask: []string{""}}},
			DeviceMask: []string{""}}
	}
	if !sameButHeartbeat(base(), base()) {
		t.Fatal("equal statuses differ")
	}
	fields := 0
	var walk func(path string, of func(*Pool) reflect.Value)
	walk = func(path string, of func(*Pool) reflect.Value) {
		changed := base()
		v := of(changed)
		deeper := func(name string, f func(reflect.Value) reflect.Value) {
			walk(path+name, func(p *Pool) reflect.Value { return f(of(p)) })
		}
		switch v.Kind() {
		case reflect.Struct:
			if v.Type() == reflect.TypeFor[time.Time]() {
				v.Set(reflect.ValueOf(time.Unix(1, 0)))
				break
			}
			for i := range v.NumField() {
				deeper("."+v.Type().Field(i).Name, func(v reflect.Value) reflect.Value { return v.Field(i) })
			}
			return
		case reflect.Pointer:
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
				break
			}
			deeper("", reflect.Value.Elem)
			v.SetZero()
		case reflect.Slice:
			if v.Len() == 0 {
				v.Set(reflect.MakeSlice(v.Type(), 1, 1))
				break
			}
			deeper("[0]", func(v reflect.Value) reflect.Value { return v.Index(0) })
			v.SetZero()
		case reflect.String:
			v.SetString("x")
		case reflect.Bool:
			v.SetBool(true)
		case reflect.Int, reflect.Int64:
			v.SetInt(1)
		case reflect.Float64:
			v.SetFloat(1)
		case reflect.Uint64:
			v.SetUint(1)
		default:
			t.Fatalf("%s is a %s: teach the test", path, v.Kind())
		}
		fields++
		if same, beat := sameButHeartbeat(base(), changed), strings.HasSuffix(path, ".LastHeartbeat"); same != beat {
			t.Errorf("a changed %s is taken for no change: %t; want %t", path, same, beat)
		}
	}
	walk("", func(p *Pool) reflect.Value { return reflect.ValueOf(p).Elem() })
	if fields < 50 {
		t.Errorf("only %d fields were looked at", fields)
	}
}
