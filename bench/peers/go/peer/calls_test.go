// SPDX-License-Identifier: MIT OR Apache-2.0

package peer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

func TestWholeFramesAreAnsweredAndHalfAFrameIsLeft(t *testing.T) {
	input := []byte("\x00\x00\x00\x02ab\x00\x00\x00\x00\x00\x00\x00\x03x")
	taken, answers, err := CallsOf(RPC).Answer(input, nil)
	if taken != 10 || !bytes.Equal(answers, input[:10]) || err != nil {
		t.Fatal(taken, answers, err)
	}
}

func TestAFrameOfAByteTooManyIsRefusedBeforeItHasCome(t *testing.T) {
	input := binary.BigEndian.AppendUint32(nil, MaxFrame+1)
	if _, _, err := CallsOf(RPC).Answer(input, nil); !errors.Is(err, ErrTooLong) {
		t.Fatal(err)
	}
}

func TestEveryTenthRequestBurnsAHundredMicroseconds(t *testing.T) {
	calls := CallsOf(Heavy)
	for range 9 {
		calls.Next()
	}
	before := processorTime()
	calls.Next()
	// The goroutine may have moved to another thread, whose time is less; a negative difference is
	// ignored.
	if spent := processorTime() - before; spent >= 0 && spent < burnNanoseconds {
		t.Fatal(spent)
	}
}
