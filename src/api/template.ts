/**
 * The template of a deployment: the part of its spec that shards are made of. Two templates are compared by what they
 * mean after today's defaults, never by their text: a release of mctl that adds a default must not restart every model.
 */
import { isDeepStrictEqual } from 'node:util'
import { applyDefaults } from './default.ts'
import { API_VERSION } from './meta.ts'
import type { DeploymentTemplate, ModelDeploymentSpec } from './modeldeployment.ts'

/** Its words; `restartedAt` is judged apart. */
const parts = ['model', 'servedName', 'parallelism', 'serving', 'engine', 'placement'] as const

export function templateOf(spec: ModelDeploymentSpec): DeploymentTemplate {
  const { model, servedName, parallelism, serving, engine, placement, restartedAt } = spec
  const restarted = restartedAt === undefined ? {} : { restartedAt }
  return { model, servedName, parallelism, serving, engine, placement, ...restarted }
}

/**
 * Whether what was made of `standing` is what `wanted` asks for. `deployment` is the name that defaults follow. Keys in
 * another order, a list of nodes in another order, and a default that `standing` was written without say the same. A
 * restart is asked for by another restartedAt, not by the lack of one: whoever drops the field restarts nothing.
 */
export function satisfies(standing: DeploymentTemplate, wanted: DeploymentTemplate, deployment: string): boolean {
  if (wanted.restartedAt !== undefined && wanted.restartedAt !== standing.restartedAt) return false
  return isDeepStrictEqual(meaningOf(standing, deployment), meaningOf(wanted, deployment))
}

function meaningOf(template: DeploymentTemplate, name: string): unknown {
  const { spec } = applyDefaults({
    apiVersion: API_VERSION,
    kind: 'ModelDeployment',
    metadata: { name },
    spec: template,
  }) as { readonly spec?: unknown }
  const filled = spec as DeploymentTemplate
  const { placement } = filled
  const plain = { ...filled, placement: { ...placement, nodes: [...placement.nodes].sort() } }
  return withoutUndefined(Object.fromEntries(parts.map((part) => [part, plain[part]])))
}

/** A field that is undefined is a field that is not there. */
function withoutUndefined(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutUndefined)
  if (typeof value !== 'object' || value === null) return value
  const set = Object.entries(value).filter(([, inside]) => inside !== undefined)
  return Object.fromEntries(set.map(([key, inside]) => [key, withoutUndefined(inside)]))
}
