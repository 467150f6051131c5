// The id of a leg's LUN, which its storage keeps: an order that names it cannot reach another LUN under the same name.

/** The first legs' LUNs have the volume's own id, later ones' that of their leg too: a storage may have had another before. */
export function lunId(volume: { readonly id: string }, leg: { readonly leg: string }): string {
  return leg.leg === 'leg-0' || leg.leg === 'leg-1' ? volume.id : `${volume.id}-${leg.leg}`
}
