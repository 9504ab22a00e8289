// SPDX-License-Identifier: MIT OR Apache-2.0

package peer

import (
	"encoding/binary"
	"errors"
	"runtime"

	"golang.org/x/sys/unix"
)

// MaxFrame is the maximum size of a frame in bytes.
const MaxFrame = 64 << 20

// Header is the size of a frame's length in bytes.
const Header = 4

const (
	heavyEvery      = 10
	burnNanoseconds = 100_000
)

// ErrTooLong reports a frame for which the connection has to be closed.
var ErrTooLong = errors.New("a frame of more than 64 MiB")

// Calls handles the requests of a connection of kind rpc or heavy.
type Calls struct {
	heavy bool
	count int
}

// CallsOf returns a handler without requests so far.
func CallsOf(kind string) *Calls {
	return &Calls{heavy: kind == Heavy}
}

// Answer appends the responses to all complete frames at the front of input to answers; taken is
// the length of these frames in bytes.
func (calls *Calls) Answer(input, answers []byte) (taken int, all []byte, err error) {
	for {
		length, known, err := FrameLength(input[taken:])
		if err != nil || !known || len(input)-taken < length {
			return taken, answers, err
		}
		calls.Next()
		answers = append(answers, input[taken:taken+length]...)
		taken += length
	}
}

// Next does the work of the next request, apart from its response.
func (calls *Calls) Next() {
	calls.count++
	if calls.heavy && calls.count%heavyEvery == 0 {
		burn()
	}
}

// FrameLength returns the size in bytes of the frame that input begins with, header included, if
// the header is complete.
func FrameLength(input []byte) (length int, known bool, err error) {
	if len(input) < Header {
		return 0, false, nil
	}
	body := binary.BigEndian.Uint32(input)
	if body > MaxFrame {
		return 0, false, ErrTooLong
	}
	return Header + int(body), true, nil
}

// burn spends 100 us of the thread's processor time, by the thread's own clock: a thread that waits
// for a processor does the same amount of work.
func burn() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for end := processorTime() + burnNanoseconds; processorTime() < end; {
	}
}

func processorTime() int64 {
	var time unix.Timespec
	// It cannot fail for a clock that every Linux has.
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &time)
	return time.Nano()
}
