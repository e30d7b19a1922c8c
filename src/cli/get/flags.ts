/** What `mctl get` was asked for; `mctl events` shares most of it. */
import type { KindName } from '../../api/kinds.ts'
import { kinds } from '../../api/kinds.ts'
import { DEFAULT_NAMESPACE } from '../../api/meta.ts'
import type { Selection } from '../../rpc/messages.ts'

export interface GetFlags {
  readonly server?: string
  readonly namespace?: string
  readonly filename?: readonly string[]
  readonly recursive?: boolean
  readonly allNamespaces?: boolean
  readonly output?: string
  readonly watch?: boolean
  readonly watchOnly?: boolean
  readonly outputWatchEvents?: boolean
  readonly selector?: string
  readonly fieldSelector?: string
  readonly sortBy?: string
  readonly showLabels?: boolean
  readonly labelColumns?: readonly string[]
  readonly showKind?: boolean
  readonly headers?: boolean
  readonly ignoreNotFound?: boolean
  readonly showManagedFields?: boolean
  readonly chunkSize?: string
}

/** Absent namespace: all of them. */
export const selectionOf = (
  kind: KindName,
  flags: Pick<GetFlags, 'namespace' | 'allNamespaces' | 'selector' | 'fieldSelector'>,
): Selection => ({
  kind,
  ...(kinds[kind].namespaced && !flags.allNamespaces ? { namespace: flags.namespace ?? DEFAULT_NAMESPACE } : {}),
  ...(flags.selector === undefined ? {} : { labelSelector: flags.selector }),
  ...(flags.fieldSelector === undefined ? {} : { fieldSelector: flags.fieldSelector }),
})

/** kubectl's sentence for an empty list. */
export function emptyText(asked: readonly KindName[], flags: Pick<GetFlags, 'namespace' | 'allNamespaces'>): string {
  const inNamespace = asked.some((kind) => kinds[kind].namespaced) && !flags.allNamespaces
  return inNamespace
    ? `No resources found in ${flags.namespace ?? DEFAULT_NAMESPACE} namespace.\n`
    : 'No resources found\n'
}
