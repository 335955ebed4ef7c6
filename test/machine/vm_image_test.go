package machine

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestPartitionTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	const size = 64 << 20
	if err := writePartitionTable(path, size); err != nil {
		t.Fatal(err)
	}
	disk, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(disk) != partitionStart+size {
		t.Errorf("%d bytes", len(disk))
	}
	if disk[510] != 0x55 || disk[511] != 0xaa {
		t.Error("no boot signature")
	}
	// The kernel makes PARTUUID of an MBR partition from the disk's signature and the partition's
	// number.
	if got := fmt.Sprintf("%08x-01", binary.LittleEndian.Uint32(disk[440:])); got != rootPartition {
		t.Errorf("PARTUUID %s, the kernel line has %s", got, rootPartition)
	}
	start, sectors := binary.LittleEndian.Uint32(disk[454:]), binary.LittleEndian.Uint32(disk[458:])
	if start*sectorSize != partitionStart || sectors*sectorSize != size {
		t.Errorf("partition of %d sectors from sector %d", sectors, start)
	}
}
