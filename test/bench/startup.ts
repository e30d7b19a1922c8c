/** What a call of the command line costs as a whole process: in turn with an empty one, so that both meet the same noise. */
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { connect } from '../../src/rpc/grpcclient.ts'
import { Running, freePort, until } from '../support/processes.ts'
import type { Row } from './stats.ts'
import { ms, percentile, sortedOf } from './stats.ts'

const ROUNDS = 15
const mctl = join(import.meta.dirname, '../../dist/src/bin/mctl.js')

const manifest = `
apiVersion: mctl.dev/v1alpha1
kind: Model
metadata: {name: startup}
spec:
  shape: {architecture: llama, layers: 4, hiddenSize: 128, intermediateSize: 256, attentionHeads: 8, kvHeads: 4, headDim: 16, vocabSize: 258, parameters: 1000000, weightBytes: 2000000}
`

export async function benchStartup(dir: string): Promise<Row[]> {
  const address = `127.0.0.1:${await freePort()}`
  const server = new Running(
    ['server', '--data-dir', join(dir, 'startup'), '--listen', address, '--gateway', 'none'],
    join(dir, 'startup.log'),
  )
  const client = connect(address, { user: 'bench' })
  try {
    await until(() => client.version({}), 20_000, 'the server answers')
    const file = join(dir, 'startup.yaml')
    writeFileSync(file, manifest)
    const calls: readonly (readonly [string, readonly string[]])[] = [
      ['version', ['version', '-s', address]],
      ['get nodes', ['get', 'nodes', '-s', address]],
      ['apply', ['apply', '-f', file, '-s', address]],
    ]
    return calls.map(([what, argv]) => rowOf(what, argv))
  } finally {
    client.close()
    await server.end()
  }
}

function rowOf(what: string, argv: readonly string[]): Row {
  const ratios: number[] = []
  const times: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const empty = timeOf(['-e', '0'])
    const whole = timeOf([mctl, ...argv])
    ratios.push(whole / empty)
    times.push(whole)
  }
  const [ratio, time] = [ratios, times].map((values) => percentile(sortedOf(values), 0.5))
  return {
    what: `mctl ${what} as a whole process, of an empty node -e 0 (p50)`,
    value: `${(ratio ?? Number.NaN).toFixed(2)} × (${ms(time ?? Number.NaN)})`,
    aim: '≤ 4 ×',
  }
}

function timeOf(argv: readonly string[]): number {
  const startMs = performance.now()
  const { status, stderr } = spawnSync(process.execPath, argv, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`node ${argv.join(' ')}: ${stderr}`)
  return performance.now() - startMs
}
