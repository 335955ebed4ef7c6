package classify

import (
	"fmt"
	"strconv"
	"strings"
)

// rows are all of them in the order of the printed table.
func rows() []row {
	all := []row{rowECC, rowUnavailable, rowMissed, rowUnknownEvent, rowRecoveryNone, rowRecoveryReset, rowRecoveryReboot, rowRecoveryP2P,
		rowRecoveryDrain, rowRecoveryOther, rowLost, rowResetRequired, rowNoAnswer, rowRemapFailed, rowRemapPending, rowOffBus, rowInit, rowMismatch,
		rowSXidFatal, rowSXid}
	for _, p := range enginePhrases {
		all = append(all, p.row)
	}
	return all
}

// ranges is the reverse of seq, for the printed table.
func ranges(codes []int) string {
	var b strings.Builder
	for i := 0; i < len(codes); {
		j := i
		for j+1 < len(codes) && codes[j+1] == codes[j]+1 {
			j++
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		if j > i {
			fmt.Fprintf(&b, "%d-%d", codes[i], codes[j])
		} else {
			b.WriteString(strconv.Itoa(codes[i]))
		}
		i = j + 1
	}
	return b.String()
}
