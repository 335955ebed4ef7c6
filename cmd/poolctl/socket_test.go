package main

import "testing"

// TestSocketsByDefault: the socket of administrators is tried unless another address was given.
func TestSocketsByDefault(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, defaultAdminSocket},
		{[]string{"--socket", defaultSocket}, ""},
		{[]string{"--url", "http://127.0.0.1:9200"}, ""},
		{[]string{"--host", "https://engines.example:9443"}, ""},
		{[]string{"--host", "unix:" + defaultSocket}, ""},
		{[]string{"--host", "unix://" + defaultSocket}, ""},
	} {
		a := &app{}
		root := newRoot(a)
		if err := root.ParseFlags(c.args); err != nil {
			t.Fatal(err)
		}
		if err := a.checkOptions(root); err != nil || a.o.admin != c.want || a.o.socket != defaultSocket {
			t.Errorf("%v: %+v %v", c.args, a.o, err)
		}
	}
}
