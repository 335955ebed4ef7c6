package mutate

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
)

const (
	maxText    = 64 << 10 // bytes of a text that is changed
	maxSources = 4096     // texts of one argument
)

// sources are what inputs are made of: texts by the place of the argument.
type sources struct {
	at map[int][]string
}

func (s *sources) put(place int, text string) {
	if len(text) <= maxText && len(s.at[place]) < maxSources {
		s.at[place] = append(s.at[place], text)
	}
}

// add takes the arguments of an input of the corpus, without the test.
func (s *sources) add(args []reflect.Value) {
	for i, a := range args {
		switch a.Kind() {
		case reflect.String:
			s.put(i, a.String())
		case reflect.Slice:
			s.put(i, string(a.Bytes()))
		}
	}
}

// next makes the arguments of one input, without the test.
func (s *sources) next(target reflect.Type) []reflect.Value {
	args := make([]reflect.Value, 0, target.NumIn()-1)
	for i := 1; i < target.NumIn(); i++ {
		v := reflect.New(target.In(i)).Elem()
		switch k := v.Kind(); {
		case k == reflect.String:
			v.SetString(string(s.text(i - 1)))
		case k == reflect.Slice:
			v.SetBytes(s.text(i - 1))
		case k == reflect.Bool:
			v.SetBool(rand.IntN(2) == 0)
		case v.CanInt():
			v.SetInt(int64(number()))
		case v.CanUint():
			v.SetUint(number())
		case v.CanFloat():
			v.SetFloat(real())
		}
		args = append(args, v)
	}
	return args
}

// number is a small one, one near a power of two, or any.
func number() uint64 {
	switch rand.IntN(4) {
	case 0:
		return rand.Uint64N(300)
	case 1:
		return 1<<rand.IntN(64) + rand.Uint64N(3) - 1
	case 2:
		return -rand.Uint64N(300)
	default:
		return rand.Uint64()
	}
}

func real() float64 {
	odd := []float64{0, math.Copysign(0, -1), 1, -1, 1.5, math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64,
		math.SmallestNonzeroFloat64, 1e9, -1e18}
	switch rand.IntN(3) {
	case 0:
		return odd[rand.IntN(len(odd))]
	case 1:
		return rand.Float64() * 100
	default:
		return math.Float64frombits(rand.Uint64())
	}
}

// text is one of the texts of a place after one to six changes.
func (s *sources) text(place int) []byte {
	var of []byte
	known := s.at[place]
	if len(known) > 0 {
		of = []byte(known[rand.IntN(len(known))])
	}
	for range 1 + rand.IntN(6) {
		if rand.IntN(8) == 0 && len(known) > 0 { // the beginning of one, the end of another
			other := known[rand.IntN(len(known))]
			of = append(of[:rand.IntN(len(of)+1)], other[rand.IntN(len(other)+1):]...)
			continue
		}
		of = change(of)
	}
	return of[:min(len(of), maxText)]
}

// words are what formats of text and numbers in them turn on.
var words = [...]string{
	"\n", "\r\n", "\x00", "\t", " ", "\"", "'", "\\", "{", "}", "[", "]", ":", ",", "=", "#", "/", "..", "../", "%", "$", "-", "--",
	"0", "1", "-1", "null", "true", "1e999", "255", "256", "65536", "2147483648", "4294967296", "9223372036854775807",
	"9223372036854775808", "18446744073709551615", "NaN", "\xff", "\xc0\x80", "\xe2\x80\xae", "\u00e9", "\x1b[2J", "\\u0000", "\xff\xff\xff\xff",
}

// change is a text after one change.
func change(of []byte) []byte {
	from, to := part(len(of))
	switch rand.IntN(8) {
	case 0: // a bit
		if len(of) > 0 {
			of[from%len(of)] ^= 1 << rand.IntN(8)
		}
	case 1: // a byte
		if len(of) > 0 {
			of[from%len(of)] = byte(rand.Uint32())
		}
	case 2:
		of = slices.Delete(of, from, to)
	case 3: // again, somewhere
		of = slices.Insert(of, rand.IntN(len(of)+1), slices.Clone(of[from:to])...)
	case 4: // over another part
		copy(of[rand.IntN(len(of)+1):], slices.Clone(of[from:to]))
	case 5:
		of = slices.Insert(of, from, []byte(words[rand.IntN(len(words))])...)
	case 6:
		of = slices.Replace(of, from, to, []byte(words[rand.IntN(len(words))])...)
	case 7: // the end is missing
		if rand.IntN(4) == 0 {
			of = of[:from]
		}
	}
	return of
}

// part is the bounds of a part of n bytes, mostly a short one.
func part(n int) (from, to int) {
	from = rand.IntN(n + 1)
	most := n - from
	if rand.IntN(4) > 0 {
		most = min(most, 8)
	}
	return from, from + rand.IntN(most+1)
}
