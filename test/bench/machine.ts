/** What the other figures stand on: how busy this machine is, and what a flush of its disk costs. */
import { closeSync, fdatasyncSync, openSync, writeSync } from 'node:fs'
import { availableParallelism, loadavg } from 'node:os'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import type { Row } from './stats.ts'
import { ms, percentile, sortedOf } from './stats.ts'

const FLUSHES = 200
const FLUSH_BYTES = 8192

export const load = (): string => (loadavg()[0] ?? 0).toFixed(1)

/** `loadBefore` is `load()` before anything was measured: afterwards the load is our own, too. */
export function machineRows(dir: string, loadBefore: string): Row[] {
  const flushes = flushTimes(join(dir, 'flush'))
  return [
    { what: 'Node.js, cores', value: `${process.version}, ${availableParallelism()}`, aim: '' },
    { what: 'load average before', value: loadBefore, aim: '< 0.5' },
    {
      what: 'flush of 8 KiB to the disk, p50 (p99)',
      value: `${ms(percentile(flushes, 0.5))} (${ms(percentile(flushes, 0.99))})`,
      aim: '',
    },
  ]
}

/** Appends and flushes as a commit does; on macOS Node, too, asks for F_FULLFSYNC. Sorted, in ms. */
function flushTimes(file: string): number[] {
  const descriptor = openSync(file, 'a')
  const times: number[] = []
  const bytes = Buffer.alloc(FLUSH_BYTES, 'x')
  for (let n = 0; n < FLUSHES; n++) {
    writeSync(descriptor, bytes)
    const startMs = performance.now()
    fdatasyncSync(descriptor)
    times.push(performance.now() - startMs)
  }
  closeSync(descriptor)
  return sortedOf(times)
}
