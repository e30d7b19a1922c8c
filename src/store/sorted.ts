/**
 * Objects of one kind in order of namespace, then name. A list that was handed out is never changed: the next write
 * copies it first, so a reader may keep it and a burst of writes copies once.
 */
import type { MctlObject } from '../api/meta.ts'

/** For Array.sort: by kind, namespace, name. */
export function inKeyOrder(a: MctlObject, b: MctlObject): number {
  return (
    compare(a.kind, b.kind) ||
    compare(a.metadata.namespace ?? '', b.metadata.namespace ?? '') ||
    compare(a.metadata.name, b.metadata.name)
  )
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

const isSameKey = (a: MctlObject | undefined, b: MctlObject): boolean =>
  a !== undefined && a.metadata.name === b.metadata.name && a.metadata.namespace === b.metadata.namespace

export class SortedObjects {
  #objects: MctlObject[] = []
  #handedOut = false

  list(namespace: string | undefined): readonly MctlObject[] {
    if (namespace === undefined) {
      this.#handedOut = true
      return this.#objects
    }
    const start = this.#firstNotBefore((o) => (o.metadata.namespace ?? '') < namespace)
    const end = this.#firstNotBefore((o) => (o.metadata.namespace ?? '') <= namespace)
    return this.#objects.slice(start, end)
  }

  /** Inserts the object, or replaces the one of the same key. */
  put(object: MctlObject): void {
    const objects = this.#own()
    const at = this.#place(object)
    if (isSameKey(objects[at], object)) objects[at] = object
    else objects.splice(at, 0, object)
  }

  remove(object: MctlObject): void {
    const objects = this.#own()
    const at = this.#place(object)
    if (isSameKey(objects[at], object)) objects.splice(at, 1)
  }

  #own(): MctlObject[] {
    if (this.#handedOut) this.#objects = this.#objects.slice()
    this.#handedOut = false
    return this.#objects
  }

  /** Where the object stands, or would stand. The hot path of every write: few comparisons, no kinds. */
  #place({ metadata: { name, namespace = '' } }: MctlObject): number {
    return this.#firstNotBefore(({ metadata }) => {
      const { namespace: other = '' } = metadata
      return other === namespace ? metadata.name < name : other < namespace
    })
  }

  #firstNotBefore(before: (object: MctlObject) => boolean): number {
    let low = 0
    let high = this.#objects.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (before(this.#objects[middle] as MctlObject)) low = middle + 1
      else high = middle
    }
    return low
  }
}
