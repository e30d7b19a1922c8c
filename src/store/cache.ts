/**
 * The present state in memory: SQLite gives durability, this gives speed. One live state is changed in place; each
 * committed version that somebody still holds reads through what later versions undid, so a snapshot stays what it
 * was and costs nothing to those who do not hold one.
 */
import type { MctlObject } from '../api/meta.ts'
import { keyOf, keyString } from '../api/meta.ts'
import type { ObjectOf } from '../api/objects.ts'
import { assert } from '../lib/errors.ts'
import { inKeyOrder, SortedObjects } from './sorted.ts'
import type { Snapshot } from './store.ts'

/** Key → object; the live state, indexed by uid, by kind in order, and by owner. */
export class LiveObjects {
  readonly #byKey = new Map<string, MctlObject>()
  readonly #byUid = new Map<string, MctlObject>()
  readonly #byKind = new Map<string, SortedObjects>()
  readonly #byOwner = new Map<string, Map<string, MctlObject>>()

  get size(): number {
    return this.#byKey.size
  }

  get(key: string): MctlObject | undefined {
    return this.#byKey.get(key)
  }

  getByUid(uid: string): MctlObject | undefined {
    return this.#byUid.get(uid)
  }

  list(kind: string, namespace: string | undefined): readonly MctlObject[] {
    return this.#byKind.get(kind)?.list(namespace) ?? []
  }

  ownedBy(ownerUid: string): readonly MctlObject[] {
    return [...(this.#byOwner.get(ownerUid)?.values() ?? [])].sort(inKeyOrder)
  }

  /** Replaces what stands under the key (`undefined` removes it) in every index, and returns what stood there. */
  replace(key: string, object: MctlObject | undefined): MctlObject | undefined {
    const old = this.#byKey.get(key)
    if (old !== undefined) this.#unindex(old)
    if (object === undefined) {
      this.#byKey.delete(key)
      if (old !== undefined) this.#byKind.get(old.kind)?.remove(old)
      return old
    }
    assert(!this.#byUid.has(object.metadata.uid), `uid ${object.metadata.uid} stands under two keys`)
    this.#byKey.set(key, object)
    this.#index(object)
    this.#sorted(object.kind).put(object)
    return old
  }

  #sorted(kind: string): SortedObjects {
    let sorted = this.#byKind.get(kind)
    if (sorted === undefined) this.#byKind.set(kind, (sorted = new SortedObjects()))
    return sorted
  }

  #index(object: MctlObject): void {
    this.#byUid.set(object.metadata.uid, object)
    for (const { uid } of object.metadata.ownerReferences ?? []) {
      const owned = this.#byOwner.get(uid) ?? new Map<string, MctlObject>()
      this.#byOwner.set(uid, owned.set(object.metadata.uid, object))
    }
  }

  #unindex(object: MctlObject): void {
    this.#byUid.delete(object.metadata.uid)
    for (const { uid } of object.metadata.ownerReferences ?? []) {
      const owned = this.#byOwner.get(uid)
      owned?.delete(object.metadata.uid)
      if (owned?.size === 0) this.#byOwner.delete(uid)
    }
  }
}

/** One version of the state. The newest reads the live objects; from its successor's first write on, it keeps what was undone. */
export class Version implements Snapshot {
  readonly revision: number
  readonly #live: LiveObjects
  #next: Version | undefined
  /** Key → object of this version, where the live state or the next version differs. */
  #before: Map<string, MctlObject | undefined> | undefined

  constructor(live: LiveObjects, revision: number) {
    this.#live = live
    this.revision = revision
  }

  /** Told before each change of the live objects: `object` stood under `key` until now. */
  keep(key: string, object: MctlObject | undefined): void {
    this.#before ??= new Map()
    if (!this.#before.has(key)) this.#before.set(key, object)
  }

  /** The changes since were committed: the version that they made, which reads the live objects from now on. */
  succeed(revision: number): Version {
    this.#next = new Version(this.#live, revision)
    return this.#next
  }

  /** The changes since were all undone: this version reads the live objects again. */
  reinstate(): void {
    this.#before = undefined
  }

  get<K extends keyof ObjectOf>(kind: K, namespace: string, name: string): ObjectOf[K] | undefined {
    const key = keyString({ kind, namespace, name })
    for (let version: Version | undefined = this; version !== undefined; version = version.#next)
      if (version.#before?.has(key) === true) return version.#before.get(key) as ObjectOf[K] | undefined
    return this.#live.get(key) as ObjectOf[K] | undefined
  }

  getByUid(uid: string): MctlObject | undefined {
    const undone = this.#undone()
    for (const object of undone.values()) if (object?.metadata.uid === uid) return object
    const object = this.#live.getByUid(uid)
    return object === undefined || undone.has(keyString(keyOf(object))) ? undefined : object
  }

  list<K extends keyof ObjectOf>(kind: K, namespace?: string): readonly ObjectOf[K][] {
    const belongs = (o: MctlObject) => o.kind === kind && (namespace === undefined || keyOf(o).namespace === namespace)
    return this.#throughUndone(this.#live.list(kind, namespace), belongs) as readonly ObjectOf[K][]
  }

  ownedBy(ownerUid: string): readonly MctlObject[] {
    const owned = (o: MctlObject) => o.metadata.ownerReferences?.some((owner) => owner.uid === ownerUid) === true
    return this.#throughUndone(this.#live.ownedBy(ownerUid), owned)
  }

  /** All objects of these kinds, kind by kind, each in order of namespace and name. */
  all(kinds: readonly (keyof ObjectOf)[]): MctlObject[] {
    return kinds.flatMap((kind) => this.list(kind) as readonly MctlObject[])
  }

  #undone(): ReadonlyMap<string, MctlObject | undefined> {
    if (this.#before === undefined && this.#next === undefined) return nothing
    const undone = new Map<string, MctlObject | undefined>()
    for (let version: Version | undefined = this; version !== undefined; version = version.#next)
      for (const [key, object] of version.#before ?? []) if (!undone.has(key)) undone.set(key, object)
    return undone
  }

  #throughUndone(live: readonly MctlObject[], belongs: (object: MctlObject) => boolean): readonly MctlObject[] {
    const undone = this.#undone()
    if (undone.size === 0) return live
    const kept = live.filter((object) => !undone.has(keyString(keyOf(object))))
    for (const object of undone.values()) if (object !== undefined && belongs(object)) kept.push(object)
    return kept.sort(inKeyOrder)
  }
}

const nothing: ReadonlyMap<string, MctlObject | undefined> = new Map()
