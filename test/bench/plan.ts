/** What a decision costs: the three experiments on their two nodes, and a deployment on three. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { applyDefaults } from '../../src/api/default.ts'
import type { Manifest } from '../../src/api/meta.ts'
import { parseManifests } from '../../src/api/yaml.ts'
import { planReport } from '../../src/planner/report.ts'
import { root } from '../support/processes.ts'
import type { Row } from './stats.ts'
import { ms, percentile, sortedOf } from './stats.ts'

const ROUNDS = 200

export function benchPlan(): Row[] {
  const read = (name: string): Manifest[] => {
    const file = join(root, 'manifests/experiments', name)
    return parseManifests(readFileSync(file), file).manifests.map((m) => applyDefaults(m.manifest))
  }
  const nodes = read('nodes.yaml')
  const third = { ...nodes[0], metadata: { name: 'mini-3' } } as Manifest
  const objects = [...nodes, third, ...read('qwen-32b.yaml')]
  const ofKind = (kind: string) => objects.filter((object) => object.kind === kind) as never
  const times: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const startMs = performance.now()
    planReport({
      nodes: ofKind('Node'),
      models: ofKind('Model'),
      deployments: ofKind('ModelDeployment'),
      independent: true,
    })
    times.push(performance.now() - startMs)
  }
  const sorted = sortedOf(times)
  return [
    {
      what: 'plan of a 32B model on 3 nodes, p50 (p99)',
      value: `${ms(percentile(sorted, 0.5))} (${ms(percentile(sorted, 0.99))})`,
      aim: '≤ 10 ms',
    },
  ]
}
