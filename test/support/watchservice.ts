/** Looks at every commit of a simulated cluster: how many replicas of a deployment answer, as the gateway would route. */
import type { ModelDeployment } from '../../src/api/modeldeployment.ts'
import { worldOf } from '../../src/controllers/world.ts'
import { deriveRoutes } from '../../src/gateway/routes.ts'
import { checkWorld } from '../../src/planner/check.ts'
import type { Store } from '../../src/store/store.ts'

export interface Service {
  /** Replicas that answered at the worst moment since `from`. */
  least(): number
  /** Broken invariants, of all moments. */
  readonly findings: readonly string[]
  /** Forgets the worst moment. */
  from(): void
}

/** `name` is the served name. */
export function watchService(store: Store, name: string): Service {
  let least = Infinity
  const findings: string[] = []
  store.onCommit(() => {
    const world = worldOf(store.snapshot(), new Map())
    findings.push(...checkWorld(world).map((f) => `${f.rule} ${f.object}: ${f.message}`))
    least = Math.min(least, deriveRoutes(world).get(name)?.length ?? 0)
  })
  return {
    least: () => (least === Infinity ? routed(store, name) : least),
    findings,
    from: () => (least = Infinity),
  }
}

export const routed = (store: Store, name: string): number =>
  deriveRoutes(worldOf(store.snapshot(), new Map())).get(name)?.length ?? 0

export const deploymentIn = (store: Store, name: string): ModelDeployment | undefined =>
  store.snapshot().get('ModelDeployment', 'default', name)
