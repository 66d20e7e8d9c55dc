package sign

import (
	"time"

	"countersign"
)

// A Validity is how long a signature is good for, in calendar units.
type Validity struct {
	Unit  string `json:"unit"` // DAYS, MONTHS or YEARS
	Value int64  `json:"value"`
}

// Eleven years and three months is Signer's default and its most.
var defaultValidity = Validity{"MONTHS", 135}

// mostValidity is that limit in each unit. No 135 months have more days than
// 4110, so no period AWS could take is refused here.
var mostValidity = map[string]int64{"DAYS": 4110, "MONTHS": 135, "YEARS": 11}

func (v Validity) check() error {
	most, ok := mostValidity[v.Unit]
	if !ok {
		return countersign.Errorf(countersign.Invalid, "signature validity period type must be one of [DAYS, MONTHS, YEARS]")
	}
	if v.Value < 1 || v.Value > most {
		return countersign.Errorf(countersign.Invalid, "signature validity period must be between 1 and %d %s", most, v.Unit)
	}
	return nil
}

// From returns the end of the period that begins at t, in UTC. A month ends on
// the day of the month it began on, or on its last day if it has no such day.
func (v Validity) From(t time.Time) time.Time {
	t = t.UTC()
	n := int(v.Value)
	switch v.Unit {
	case "DAYS":
		return t.AddDate(0, 0, n)
	case "YEARS":
		n *= 12
	}
	end := t.AddDate(0, n, 0)
	if end.Day() != t.Day() { // AddDate ran over into the month after
		end = end.AddDate(0, 0, -end.Day())
	}
	return end
}
