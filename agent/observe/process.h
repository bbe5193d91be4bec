// What /proc knows of this process, for the process_* metrics.
#pragma once

#include "agent/observe/readings.h"

namespace weft::observe {

// Values that cannot be read are 0.
ProcessReading read_process();

}  // namespace weft::observe
